//! The servers that pxed is measured against, each started in a namespace as its users run it.

pub(crate) mod tftp;
