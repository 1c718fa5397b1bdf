//! X.509 certificates, as much as a signature needs.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::der::{Element, Reader, oid, tag};

/// A certificate.
#[derive(Clone)]
pub(super) struct Certificate {
    /// The certificate in DER.
    pub(super) der: Vec<u8>,
    /// The issuer's name, in DER.
    pub(super) issuer: Vec<u8>,
    /// The serial number, in DER.
    pub(super) serial: Vec<u8>,
    /// The public key; of RSA, a sequence of modulus and exponent in DER.
    pub(super) public_key: Vec<u8>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// It says that it is for kernel modules only.
    pub(super) is_for_modules: bool,
}

impl Certificate {
    /// Reads a certificate (RFC 5280 §4.1), or returns `None` if it is not one.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(der);
        let whole = outer.expect(tag::SEQUENCE)?;
        let mut fields = Reader::new(whole.contents).enter(tag::SEQUENCE)?;
        let _version = fields.expect(tag::context(0));
        let serial = fields.expect(tag::INTEGER)?;
        let _algorithm = fields.expect(tag::SEQUENCE)?;
        let issuer = fields.expect(tag::SEQUENCE)?;
        let mut validity = fields.enter(tag::SEQUENCE)?;
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let _subject = fields.expect(tag::SEQUENCE)?;
        let mut public_key = fields.enter(tag::SEQUENCE)?;
        let _algorithm = public_key.expect(tag::SEQUENCE)?;
        let public_key = public_key.expect(tag::BIT_STRING)?.contents.strip_prefix(&[0])?;
        let extensions = fields.rest();
        Some(Self {
            der: whole.whole.to_vec(),
            issuer: issuer.whole.to_vec(),
            serial: serial.whole.to_vec(),
            public_key: public_key.to_vec(),
            not_before,
            not_after,
            is_for_modules: extensions.windows(oid::MODULE_SIGNING.len()).any(|window| window == oid::MODULE_SIGNING),
        })
    }
}

/// Reads a time (RFC 5280 §4.1.2.5).
fn time(element: Element<'_>) -> Option<Timestamp> {
    let text = str::from_utf8(element.contents).ok()?;
    let text = match element.tag {
        tag::UTC_TIME if text.is_char_boundary(2) => {
            // Years from 50 on are of the last century.
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        tag::GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}
