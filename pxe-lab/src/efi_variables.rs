//! The variables of OVMF's flash memory: Secure Boot's keys, and shim's.

use std::{fs, path::Path};

use anyhow::{Context as _, bail, ensure};

/// A GUID, as it is stored: the first three fields have their bytes reversed.
type Guid = [u8; 16];

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: Guid = guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`.
const SECURITY_DATABASE: Guid = guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// edk2's `gEfiSecureBootEnableDisableGuid`.
const ENABLE_DISABLE: Guid = guid(0xf0a3_0bc7, 0xaf08, 0x4556, [0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44]);
/// shim's own variables.
const SHIM: Guid = guid(0x605d_ab50, 0xe046, 0x4300, [0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23]);
/// `EFI_CERT_X509_GUID`.
const X509: Guid = guid(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
/// edk2's store of authenticated variables.
const AUTHENTICATED_STORE: Guid = guid(0xaaf3_2c78, 0x947b, 0x439a, [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92]);
/// The lab, as the owner of keys.
const OWNER: Guid = guid(0x7078_6564, 0x6c61, 0x4062, [0x80, 0, 0, 0, 0, 0, 0, 1]);

const NON_VOLATILE: u32 = 1;
const BOOT_SERVICE: u32 = 2;
const RUNTIME: u32 = 4;
const TIME_BASED_AUTHENTICATED: u32 = 0x20;

/// The length of a variable's header: the mark, state, attributes, count, time, key, two sizes, vendor.
const HEADER: usize = 60;
const MARK: [u8; 2] = [0xaa, 0x55];
/// A variable that is complete and not deleted.
const ADDED: u8 = 0x3f;

/// The variables of a machine.
#[derive(Clone, Debug)]
pub struct EfiVariables {
    flash: Vec<u8>,
    /// The offset at which the next variable begins.
    next: usize,
    /// The end of the store.
    end: usize,
}

impl EfiVariables {
    /// Reads the variables of an image of the flash memory, such as `OVMF_VARS_4M.fd`.
    ///
    /// # Errors
    ///
    /// Fails if it has no store of authenticated variables.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let flash = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(flash).with_context(|| format!("{} does not hold EFI variables", file.display()))
    }

    fn parse(flash: Vec<u8>) -> anyhow::Result<Self> {
        let volume_header = flash.get(48..50).context("too short")?;
        let store = usize::from(u16::from_le_bytes(volume_header.try_into()?));
        ensure!(flash.get(store..store + 16) == Some(&AUTHENTICATED_STORE), "no store of authenticated variables");
        let end = store + get(&flash, store + 16)?;
        ensure!(end <= flash.len(), "the store is cut off");
        let mut next = store + 28;
        while flash.get(next..next + 2) == Some(&MARK) {
            next = (next + HEADER + get(&flash, next + 36)? + get(&flash, next + 40)?).next_multiple_of(4);
        }
        Ok(Self { flash, next, end })
    }

    /// Enables Secure Boot with this certificate, in DER, as the only one whose signatures the firmware accepts.
    ///
    /// # Errors
    ///
    /// Fails if the store is full.
    pub fn trust_only(&mut self, certificate: &[u8]) -> anyhow::Result<()> {
        let list = signature_list(certificate)?;
        let attributes = NON_VOLATILE | BOOT_SERVICE | RUNTIME | TIME_BASED_AUTHENTICATED;
        self.add("PK", GLOBAL, attributes, &list)?;
        self.add("KEK", GLOBAL, attributes, &list)?;
        self.add("db", SECURITY_DATABASE, attributes, &list)?;
        self.add("SecureBootEnable", ENABLE_DISABLE, NON_VOLATILE | BOOT_SERVICE, &[1])
    }

    /// Adds this certificate, in DER, to those whose signatures shim accepts: a machine owner's key (MOK).
    ///
    /// # Errors
    ///
    /// Fails if the store is full.
    pub fn enrol_machine_owner(&mut self, certificate: &[u8]) -> anyhow::Result<()> {
        self.add("MokList", SHIM, NON_VOLATILE | BOOT_SERVICE, &signature_list(certificate)?)
    }

    /// Returns the image of the flash memory.
    #[must_use]
    pub fn flash(&self) -> &[u8] {
        &self.flash
    }

    fn add(&mut self, name: &str, vendor: Guid, attributes: u32, data: &[u8]) -> anyhow::Result<()> {
        let name: Vec<_> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let mut variable = vec![0; HEADER];
        variable[..2].copy_from_slice(&MARK);
        variable[2] = ADDED;
        variable[4..8].copy_from_slice(&attributes.to_le_bytes());
        if attributes & TIME_BASED_AUTHENTICATED != 0 {
            // 2026-01-01.
            variable[16..20].copy_from_slice(&[0xea, 0x07, 1, 1]);
        }
        variable[36..40].copy_from_slice(&u32::try_from(name.len())?.to_le_bytes());
        variable[40..44].copy_from_slice(&u32::try_from(data.len())?.to_le_bytes());
        variable[44..60].copy_from_slice(&vendor);
        variable.extend(name);
        variable.extend_from_slice(data);
        let end = self.next + variable.len();
        if end > self.end {
            bail!("no room for another variable");
        }
        self.flash[self.next..end].copy_from_slice(&variable);
        self.next = end.next_multiple_of(4);
        Ok(())
    }
}

/// Returns an `EFI_SIGNATURE_LIST` of one certificate.
fn signature_list(certificate: &[u8]) -> anyhow::Result<Vec<u8>> {
    let signature = u32::try_from(OWNER.len() + certificate.len())?;
    let sizes = [28 + signature, 0, signature].map(u32::to_le_bytes);
    Ok([&X509[..], sizes.as_flattened(), &OWNER, certificate].concat())
}

fn get(bytes: &[u8], at: usize) -> anyhow::Result<usize> {
    let bytes = bytes.get(at..at + 4).context("too short")?;
    Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
}

const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Guid {
    let (a, b, c, r) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes(), rest);
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns flash memory with an empty store of this many bytes.
    fn empty(length: u32) -> Vec<u8> {
        let mut flash = vec![0; 72];
        flash[48..50].copy_from_slice(&72u16.to_le_bytes());
        flash.extend(AUTHENTICATED_STORE);
        flash.extend(length.to_le_bytes());
        flash.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
        flash.resize(72 + usize::try_from(length).unwrap(), 0xff);
        flash
    }

    #[test]
    fn variable_is_appended_to_those_that_are_there() {
        let mut variables = EfiVariables::parse(empty(1024)).unwrap();
        variables.trust_only(b"certificate").unwrap();
        let mut again = EfiVariables::parse(variables.flash().to_vec()).unwrap();
        assert_eq!(again.next, variables.next);
        again.enrol_machine_owner(b"another").unwrap();
        let added = &again.flash()[variables.next..again.next];
        assert_eq!(added[..8], [0xaa, 0x55, ADDED, 0, 3, 0, 0, 0]);
        assert_eq!(added[36..44], [16, 0, 0, 0, 28 + 16 + 7, 0, 0, 0]);
        assert_eq!(added[44..60], SHIM);
        assert_eq!(added[60..64], *b"M\0o\0");
        assert_eq!(added[60 + 16..][..28], [&X509[..], &[51, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0]].concat());
        assert!(added.windows(7).any(|window| window == b"another"));
        assert!(again.flash()[again.next..].iter().all(|&byte| byte == 0xff));
    }

    #[test]
    fn variables_stay_within_the_store() {
        let mut variables = EfiVariables::parse(empty(200)).unwrap();
        assert!(variables.trust_only(&[0; 100]).unwrap_err().to_string().contains("no room"));
        assert!(EfiVariables::parse(vec![0; 100]).is_err());
        assert!(EfiVariables::parse(Vec::new()).is_err());
    }
}
