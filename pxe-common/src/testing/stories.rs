//! Named sequences of frames: what others send in a machine's name, and what the machine itself then gets.

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use super::{
    build::FrameBuilder,
    constants::{KNOWN, OTHER, SERVER, SMALL_BURST, small_bucket},
    world::Rules,
};
use crate::{counter::Counter, layout::UnknownMachines, mac::MacAddr};

/// A frame that is received several times, and its verdict each time.
#[derive(Clone, Debug)]
pub struct Step {
    /// The frame.
    pub frame: Vec<u8>,
    /// The expected verdict.
    pub expected: Counter,
    /// The number of times that it is received.
    pub times: u64,
}

/// A sequence of frames, received in a world where each bucket has [`SMALL_BURST`] tokens and gets none back.
#[derive(Clone, Debug)]
pub struct Story {
    /// The special feature of the sequence.
    pub name: &'static str,
    /// The rules of the world.
    pub rules: Rules,
    /// The frames, in their order.
    pub steps: Vec<Step>,
}

/// The tokens of a sender's bucket, and those of the bucket of all senders: [`Settings::of_sender`](crate::Settings::of_sender).
const SENDER_BURST: u64 = 2_049;

const ATTACKER: MacAddr = MacAddr([0x06, 0, 0, 0, 0, 9]);
const RELAY: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 9]);

/// Returns a MAC address for each number.
fn forged(number: u64) -> MacAddr {
    let [.., c, d] = number.to_be_bytes();
    MacAddr([0x0a, 0, 0, 0, c, d])
}

fn step(expected: Counter, times: u64, change: impl FnOnce(&mut FrameBuilder)) -> Step {
    let mut builder = FrameBuilder::default();
    change(&mut builder);
    Step { frame: builder.build(), expected, times }
}

fn from(source: MacAddr) -> impl Fn(&mut FrameBuilder) {
    move |frame| frame.ethernet_source = source
}

fn by_relay(source: MacAddr, chaddr: MacAddr) -> impl Fn(&mut FrameBuilder) {
    move |frame| {
        frame.ethernet_source = source;
        frame.chaddr = chaddr;
        frame.giaddr = Ipv4Addr::new(192, 0, 2, 1);
        frame.destination = SERVER;
        frame.ports = (67, 67);
    }
}

/// Returns all sequences.
#[must_use]
pub fn stories() -> Vec<Story> {
    use Counter::{OthersRateLimited, RateLimited, Redirected};

    let itself = |expected, times| step(expected, times, |_| ());
    let story = |name, steps| {
        let rules = Rules { settings: small_bucket(UnknownMachines::Pass), no_socket: false };
        Story { name, rules, steps }
    };
    vec![
        story(
            "machine asks although another MAC floods in its name",
            vec![
                step(Redirected, SMALL_BURST, from(ATTACKER)),
                step(OthersRateLimited, 100, from(ATTACKER)),
                itself(Redirected, SMALL_BURST),
                itself(RateLimited, 2),
            ],
        ),
        story(
            "machine asks although somebody floods behind a forged relay",
            vec![
                step(Redirected, SMALL_BURST, by_relay(ATTACKER, KNOWN)),
                step(OthersRateLimited, 100, by_relay(ATTACKER, KNOWN)),
                itself(Redirected, SMALL_BURST),
            ],
        ),
        story(
            "machine asks although a relay is named in frames from its own MAC",
            vec![
                step(Redirected, SMALL_BURST, by_relay(KNOWN, KNOWN)),
                step(OthersRateLimited, 100, by_relay(KNOWN, KNOWN)),
                itself(Redirected, SMALL_BURST),
            ],
        ),
        story("machine asks although frames come from many forged MACs", {
            let mut steps: Vec<_> = (0..SENDER_BURST).map(|number| step(Redirected, 1, from(forged(number)))).collect();
            steps.extend((0..50).map(|number| step(OthersRateLimited, 1, from(forged(60_000 + number)))));
            steps.push(itself(Redirected, SMALL_BURST));
            steps
        }),
        story(
            "relay asks for a machine although another MAC floods in its name",
            vec![
                step(Redirected, SMALL_BURST, from(ATTACKER)),
                step(OthersRateLimited, 100, from(ATTACKER)),
                step(Redirected, SMALL_BURST, by_relay(RELAY, KNOWN)),
                step(OthersRateLimited, 1, by_relay(RELAY, KNOWN)),
                step(Redirected, SMALL_BURST, by_relay(RELAY, OTHER)),
            ],
        ),
        story(
            "machine that floods in another one's name uses up its own bucket alone",
            vec![
                step(Redirected, SMALL_BURST, from(OTHER)),
                step(OthersRateLimited, 10, from(OTHER)),
                itself(Redirected, SMALL_BURST),
                step(RateLimited, 1, |frame| (frame.ethernet_source, frame.chaddr) = (OTHER, OTHER)),
            ],
        ),
        story(
            "machine that floods uses up its own bucket alone",
            vec![
                itself(Redirected, SMALL_BURST),
                itself(RateLimited, 10),
                step(Redirected, SMALL_BURST, |frame| (frame.ethernet_source, frame.chaddr) = (OTHER, OTHER)),
                step(Redirected, SMALL_BURST, by_relay(RELAY, KNOWN)),
            ],
        ),
    ]
}
