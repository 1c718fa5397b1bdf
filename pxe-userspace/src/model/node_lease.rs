//! What a node says of itself to the others: the content of its Lease.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::nodes::Sites;

/// The most sites and problems that an announcement has.
const MOST_SITES: usize = 1_024;
const MOST_PROBLEMS: usize = 16;
/// The most characters of a problem.
const LONGEST_PROBLEM: usize = 300;

/// The Lease of a node, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLease {
    /// The name of the node.
    pub node: Arc<str>,
    /// A text that differs whenever the Lease has been renewed.
    pub version: Arc<str>,
    /// The time for which it counts without being renewed.
    pub counts_for: Duration,
    /// The announcement of the node, or the reason why it cannot be understood.
    pub announcement: Result<Announcement, String>,
}

impl NodeLease {
    /// The time for which a Lease counts.
    pub const DURATION: Duration = Duration::from_secs(15);
    /// The interval at which it is renewed.
    pub const RENEWED_EVERY: Duration = Duration::from_secs(2);
    /// The time without success after which the API server counts as away.
    pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);
}

/// The announcement of a node in its Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announcement {
    /// A number that each process draws at its start.
    pub instance: String,
    /// The sites that it serves now.
    pub sites: Sites,
    /// Its problems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl Announcement {
    /// Creates the announcement of a process. What is too much for a Lease is left out.
    #[must_use]
    pub fn new(instance: &str, sites: &Sites, problems: &[String]) -> Self {
        Self { instance: instance.to_owned(), sites: sites.clone(), problems: problems.to_vec() }.limited()
    }

    /// Returns the JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the JSON. Addresses that are no host's are left out.
    ///
    /// # Errors
    ///
    /// The reason, if it is not what a pxed writes.
    pub fn of_json(text: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(read.limited())
    }

    fn limited(mut self) -> Self {
        let is_host = |address: &Ipv4Addr| {
            !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
        };
        self.sites = self.sites.into_iter().filter(|(_, server)| is_host(server)).take(MOST_SITES).collect();
        self.problems.truncate(MOST_PROBLEMS);
        for problem in &mut self.problems {
            // What comes from outside must not break lines of the log.
            *problem = problem.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_PROBLEM).collect();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcement_is_read_as_it_was_written() {
        let sites = Sites::from([(Ipv4Addr::new(10, 0, 0, 254), Ipv4Addr::new(10, 0, 0, 2))]);
        let said = Announcement::new("a1", &sites, &["interface eth1 is down".to_owned()]);
        let json = r#"{"instance":"a1","sites":{"10.0.0.254":"10.0.0.2"},"problems":["interface eth1 is down"]}"#;
        assert_eq!(said.to_json(), json);
        assert_eq!(Announcement::of_json(json), Ok(said));
    }

    #[test]
    fn announcement_of_a_later_version_is_understood_and_garbage_is_not() {
        let later = r#"{"instance":"a1","later":[1],"sites":{}}"#;
        assert_eq!(Announcement::of_json(later).map(|read| read.instance), Ok("a1".to_owned()));
        for garbage in
            ["", "{", "null", r#"{"sites":["10.0.0.1"]}"#, r#"{"sites":{"a":"b"}}"#, r#"{"sites":{"10.0.0.1":7}}"#]
        {
            assert!(Announcement::of_json(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn announcement_has_bounds() {
        let site = |number: u32| (Ipv4Addr::from(number), Ipv4Addr::from(0x0a00_0000 + number));
        let sites: Sites = (1..5_000).map(site).chain([(Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::LOCALHOST)]).collect();
        let flood = Announcement::new("a1", &sites, &vec!["\n\u{1b}[2J".repeat(1_000); 100]);
        let read = Announcement::of_json(&flood.to_json()).unwrap();
        assert_eq!((read.sites.len(), read.problems.len()), (MOST_SITES, MOST_PROBLEMS));
        assert!(read.problems.iter().all(|problem| !problem.contains(char::is_control)));
        assert!(read.to_json().len() < 100_000);
        assert!(read.sites.values().all(|server| !server.is_loopback()));
    }
}
