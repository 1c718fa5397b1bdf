//! The host's network: interfaces, packet sockets, the headers around a payload, prefix arithmetic.

pub mod buffer;
pub mod frame;
pub mod held_port;
pub mod interface;
pub mod neighbour;
pub mod networks;
pub mod packet_observer;
pub mod packet_socket;
pub mod prefix;
pub mod pulse;
pub mod raw_udp;
mod rtnetlink;
pub mod xdp_programs;
