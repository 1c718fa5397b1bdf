//! The list of the Debian packages that the tests and `cargo xtask` use. There is no other.

/// The purpose of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The tests, `cargo xtask run`, `lab` and `bench`.
    Tests,
    /// `cargo xtask ebpf`.
    Ebpf,
    /// `cargo xtask lint`.
    Lint,
    /// `cargo xtask fuzz`.
    Fuzz,
}

/// A Debian package.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// The package's name.
    pub name: &'static str,
    /// Evidence that it is installed, also on a host without dpkg: names of programs, paths of other files.
    pub has: &'static [&'static str],
    /// The commands that need it.
    pub purpose: Purpose,
    /// The purpose in words, for the user who is asked to install it.
    pub why: &'static str,
}

const fn tests(name: &'static str, has: &'static [&'static str], why: &'static str) -> Package {
    Package { name, has, purpose: Purpose::Tests, why }
}

const fn ebpf(name: &'static str, has: &'static [&'static str], why: &'static str) -> Package {
    Package { name, has, purpose: Purpose::Ebpf, why }
}

const fn fuzz(name: &'static str, has: &'static [&'static str], why: &'static str) -> Package {
    Package { name, has, purpose: Purpose::Fuzz, why }
}

/// All packages.
pub const PACKAGES: &[Package] = &[
    tests("iproute2", &["ip", "bridge"], "network namespaces, veth pairs and bridges"),
    tests("ethtool", &["ethtool"], "offload settings of the benchmarks' interfaces"),
    tests("xz-utils", &["xz"], "the guests' initramfs"),
    tests("curl", &["curl"], "HTTP and TFTP client"),
    tests("python3", &["python3"], "HTTP server that pxed's simulated machines boot from"),
    tests("python3-venv", &[], "place for the Python packages of the tests"),
    tests("prometheus", &["promtool"], "checks of metrics and alert rules"),
    tests("tftp-hpa", &["tftp"], "TFTP client"),
    tests("dnsmasq-base", &["dnsmasq"], "DHCP and TFTP server beside pxed"),
    tests("udhcpc", &["udhcpc"], "DHCP client"),
    tests("isc-dhcp-client", &["dhclient"], "DHCP client"),
    tests("isc-dhcp-relay", &["dhcrelay"], "DHCP relay"),
    tests("systemd", &["systemd-networkd"], "DHCP client of systemd-networkd"),
    tests("kea-admin", &["perfdhcp"], "streams of DHCP exchanges"),
    tests("qemu-system-x86", &["qemu-system-x86_64"], "x86-64 guests"),
    tests("qemu-system-arm", &["qemu-system-aarch64"], "ARM64 guests"),
    tests("qemu-efi-aarch64", &["/usr/share/AAVMF/AAVMF_CODE.fd"], "UEFI firmware of ARM64 guests"),
    tests("ovmf", &["/usr/share/OVMF/OVMF_CODE_4M.fd"], "UEFI firmware of x86-64 guests"),
    tests("u-boot-qemu", &["/usr/lib/u-boot/qemu_arm64/u-boot.bin"], "U-Boot of ARM64 guests"),
    tests("seabios", &["/usr/share/seabios/bios-256k.bin"], "BIOS of x86-64 guests"),
    tests("systemd-boot-efi", &["/usr/lib/systemd/boot/efi/linuxx64.efi.stub"], "EFI stub of unified kernel images"),
    tests("binutils", &["objcopy"], "sections of unified kernel images"),
    tests("openssl", &["openssl"], "keys for Secure Boot"),
    tests("sbsigntool", &["sbsign", "sbverify"], "signatures for Secure Boot"),
    tests("mmdebstrap", &["mmdebstrap"], "a Debian system to install the package in"),
    tests("systemd-container", &["systemd-nspawn"], "starts that system with its own systemd"),
    tests("dpkg-dev", &["dpkg-shlibdeps", "dpkg-parsechangelog"], "dependencies and changelog of the package"),
    tests("lintian", &["lintian"], "check of the package"),
    tests("groff-base", &["/usr/share/groff/current/font/devutf8/DESC"], "check of the package's manual pages"),
    tests("ipxe", &["/usr/lib/ipxe/undionly.kpxe"], "boot loaders"),
    tests("ipxe-qemu", &["/usr/lib/ipxe/qemu/pxe-virtio.rom"], "ROMs of the guests' network cards"),
    tests("tshark", &["tshark"], "reader of pxed's captures"),
    tests("chromium", &["chromium"], "browser that the dashboard is tested in"),
    tests("umoci", &["umoci"], "unpacking of the container image"),
    tests("runc", &["runc"], "containers"),
    ebpf("rustc-web", &["/usr/bin/rustc"], "compiler of the XDP program"),
    ebpf("libstd-rust-web-dev-bpf", &[], "the compiler's `core` for BPF"),
    ebpf("llvm-22-dev", &["/usr/lib/llvm-22/bin/llvm-config"], "library that bpf-linker is built with"),
    ebpf("libzstd-dev", &["/usr/include/zstd.h"], "library that bpf-linker is built with"),
    ebpf("zlib1g-dev", &["/usr/include/zlib.h"], "library that bpf-linker is built with"),
    fuzz("g++", &["c++"], "compiler of libFuzzer"),
];

/// Returns the package that contains this program; by default, one of the same name.
#[must_use]
pub fn package_of(program: &str) -> &str {
    PACKAGES.iter().find(|package| package.has.contains(&program)).map_or(program, |package| package.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_of_a_program_is_in_the_table() {
        assert_eq!(package_of("bridge"), "iproute2");
        assert_eq!(package_of("no-such-tool"), "no-such-tool");
    }

    #[test]
    fn packages_are_named_once() {
        for package in PACKAGES {
            assert_eq!(PACKAGES.iter().filter(|other| other.name == package.name).count(), 1, "{}", package.name);
        }
    }
}
