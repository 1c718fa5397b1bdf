//! DHCP (RFC 2131, 2132) and PXE as values: decode, classify, answer, encode. No I/O.
