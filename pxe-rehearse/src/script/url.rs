//! The URLs of files, as iPXE reads them.

use std::{fmt, net::Ipv4Addr};

/// An absolute URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    pub(crate) host: Ipv4Addr,
    pub(crate) port: u16,
    /// The path with its leading slash, and the query.
    pub(crate) path: String,
}

/// The protocol that the file is fetched by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Tftp,
}

impl Scheme {
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Tftp => 69,
        }
    }
}

impl Url {
    /// Returns the URL of a boot file that a DHCP reply names, either as a URL or as a TFTP path on the next server.
    pub(crate) fn of_boot_file(file: &str, next_server: Option<Ipv4Addr>) -> Result<Self, String> {
        if file.contains("://") {
            return Self::parse(file);
        }
        let host = next_server.ok_or_else(|| format!("{file} is on no server: neither siaddr nor option 66 nor 54"))?;
        Ok(Self { scheme: Scheme::Tftp, host, port: 69, path: format!("/{}", file.trim_start_matches('/')) })
    }

    /// Parses an absolute URL.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("{text} is not a URL"))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "tftp" => Scheme::Tftp,
            other => return Err(format!("{text}: a simulated machine speaks http and tftp, not {other}")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.split_once(':') {
            None => (authority, scheme.default_port()),
            Some((host, port)) => (host, port.parse().map_err(|_| format!("{text}: {port} is not a port"))?),
        };
        let host = host
            .parse()
            .map_err(|_| format!("{text}: {host} is not an IPv4 address, and simulated machines do not use DNS"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { scheme, host, port, path })
    }

    /// Resolves a reference in the script at this URL (RFC 3986 §5.2, as far as boot scripts need it).
    pub(crate) fn resolve(&self, reference: &str) -> Result<Self, String> {
        let scheme_end = reference.find("://");
        if scheme_end.is_some_and(|end| !reference[..end].contains(['/', '?'])) {
            return Self::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            let scheme = if self.scheme == Scheme::Http { "http" } else { "tftp" };
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let path = if reference.starts_with('/') {
            reference.to_owned()
        } else {
            let own = self.path.split('?').next().unwrap_or("/");
            let folder =
                if reference.starts_with('?') { own } else { &own[..own.rfind('/').map_or(0, |slash| slash + 1)] };
            format!("{folder}{reference}")
        };
        Ok(Self { path: without_dots(&path), ..self.clone() })
    }

    /// Returns `true` if a server that names this URL to firmware means a unified kernel image, which pxed makes for each machine.
    pub(crate) fn is_kernel_image(&self) -> bool {
        self.file_name() == "talos.efi"
    }

    /// Returns the file name, which is the name that iPXE gives the image.
    pub(crate) fn file_name(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

/// Removes the segments `.` and `..` from the path, but not from the query.
fn without_dots(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "tftp" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_resolve_as_in_rfc_3986() {
        let base = Url::parse("http://10.0.0.1:8000/a/boot.ipxe?x=1/2").unwrap();
        for (reference, expected) in [
            ("ipxe?uuid=1&mac=2", "http://10.0.0.1:8000/a/ipxe?uuid=1&mac=2"),
            ("/assets/vmlinuz", "http://10.0.0.1:8000/assets/vmlinuz"),
            ("../c", "http://10.0.0.1:8000/c"),
            ("./c", "http://10.0.0.1:8000/a/c"),
            ("?y=2", "http://10.0.0.1:8000/a/boot.ipxe?y=2"),
            ("//10.0.0.2/x", "http://10.0.0.2/x"),
            ("tftp://10.0.0.3/ipxe.efi", "tftp://10.0.0.3/ipxe.efi"),
            ("/go?to=http://10.0.0.9/", "http://10.0.0.1:8000/go?to=http://10.0.0.9/"),
        ] {
            assert_eq!(base.resolve(reference).unwrap().to_string(), expected, "{reference}");
        }
    }

    #[test]
    fn boot_file_without_scheme_is_on_the_next_server() {
        let server = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(Url::of_boot_file("/ipxe.efi", server).unwrap().to_string(), "tftp://10.0.0.1/ipxe.efi");
        assert!(Url::of_boot_file("ipxe.efi", None).unwrap_err().contains("no server"));
        assert!(Url::of_boot_file("https://10.0.0.1/x", server).unwrap_err().contains("https"));
        assert!(Url::of_boot_file("http://boot.example/x", server).unwrap_err().contains("DNS"));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(base in "\\PC*", reference in "\\PC*") {
            if let Ok(url) = Url::parse(&format!("http://10.0.0.1/{base}")) {
                let _ = url.resolve(&reference).map(|url| url.to_string());
            }
            let _ = Url::parse(&reference);
        }
    }
}
