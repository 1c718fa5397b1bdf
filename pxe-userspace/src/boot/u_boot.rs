//! The configuration of one machine's U-Boot, in the format of PXELINUX.
//!
//! U-Boot (`boot/pxe_utils.c`) reads a line up to its end, without quotes. It runs the `append` line through the macros of its
//! shell before it gives it to the kernel: `${name}` and `$(name)` become a variable of its environment, single quotes disappear,
//! and a backslash takes the meaning from the character after it.

use std::net::Ipv4Addr;

use crate::{
    boot::talos,
    model::{artifact_names, inventory::Machine},
};

/// Returns the configuration with which U-Boot boots this machine from the network. `directory` precedes the names of the files, and
/// `server` is where the machine asks for it.
///
/// `initrd` stands before `append`, since U-Boot takes the first `initrd=` in the arguments for the name of a file otherwise.
#[must_use]
pub fn config(machine: &Machine, server: Ipv4Addr, directory: &str) -> String {
    format!(
        "# U-Boot configuration of {mac}, by pxed\n\
         default talos\n\
         \n\
         label talos\n \
         kernel {directory}{kernel}\n \
         initrd {directory}{initramfs}\n \
         append {arguments}\n",
        mac = machine.mac,
        kernel = artifact_names::kernel_path(machine),
        initramfs = artifact_names::initramfs_path(machine),
        arguments = quoted(&talos::arguments(machine, server, None)),
    )
}

/// Quotes kernel arguments so that U-Boot passes them on byte for byte. Only a line break cannot be passed: it becomes a space,
/// which is the same to Linux. NUL, which would end the file, is dropped.
#[must_use]
pub fn quoted(arguments: &str) -> String {
    let mut line = String::with_capacity(arguments.len());
    let mut previous = None;
    for character in arguments.chars().filter(|&character| character != '\0') {
        let character = if character == '\n' { ' ' } else { character };
        // U-Boot takes a character after a backslash for escaped, even after one that was escaped itself.
        if matches!(character, '\\' | '$' | '\'') && previous != Some('\\') {
            line.push('\\');
        }
        line.push(character);
        previous = Some(character);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{architecture::Architecture, testing::machine};

    /// Returns the arguments that the kernel gets for an `append` line. It mimics `cli_simple_process_macros` of U-Boot 2026.07.
    fn u_boot_reads(line: &str, environment: &HashMap<&str, &str>) -> String {
        let mut input = line.chars();
        let (mut output, mut name, mut previous, mut state) = (String::new(), String::new(), '\0', 0);
        while let Some(mut character) = input.next() {
            if state != 3 && character == '\\' && previous != '\\' {
                previous = character;
                let Some(escaped) = input.next() else { break };
                character = escaped;
            }
            match state {
                0 if character == '\'' && previous != '\\' => state = 3,
                0 if character == '$' && previous != '\\' => state = 1,
                1 if matches!(character, '(' | '{') => {
                    state = 2;
                    name.clear();
                }
                1 => {
                    state = 0;
                    output.extend(['$', character]);
                }
                2 if matches!(character, ')' | '}') => {
                    state = 0;
                    output += environment.get(name.as_str()).unwrap_or(&"");
                }
                2 => name.push(character),
                3 if character == '\'' && previous != '\\' => state = 0,
                _ => output.push(character),
            }
            previous = character;
        }
        output
    }

    fn read_back(arguments: &str) -> String {
        u_boot_reads(&quoted(arguments), &HashMap::from([("uuid", "expanded"), ("serial#", "expanded")]))
    }

    #[test]
    fn arguments_survive_the_macros() {
        for text in [
            "talos.config=http://10.0.0.1/c?u=${uuid}&s=$(serial#)",
            "talos.config.inline=eJwrSS0uAQAEXQHB+/==",
            "$ $$ ${ $( } ) $uuid",
            r#"dyndbg="file drivers/net/* +p" x='y  z'"#,
            r"back\slash \ \\ \\\ \\\\",
            r"\${uuid} \\${uuid} \'x\' \\'x\\'",
            "a;b&&c||d #e {f} `g`",
            "ends in a backslash\\",
            "''",
            "tab\tstays  two spaces too ",
        ] {
            assert_eq!(read_back(text), text, "{text}");
        }
    }

    #[test]
    fn unquoted_arguments_would_not_survive() {
        let environment = HashMap::from([("uuid", "expanded")]);
        assert_eq!(u_boot_reads("u=${uuid} '$x' \\y", &environment), "u=expanded $x y");
    }

    #[test]
    fn plain_arguments_are_written_as_they_are() {
        let text = "console=ttyAMA0,115200n8 a+b/c= x=\"y z\" #;&|";
        assert_eq!(quoted(text), text);
    }

    #[test]
    fn line_break_starts_no_line() {
        assert_eq!(quoted("a\nlabel evil\n kernel evil\0"), "a label evil  kernel evil");
    }

    #[test]
    fn config_has_the_initrd_before_the_arguments() {
        let arm64 = Machine {
            kernel_args: "talos.config=http://h/?u=${uuid} initrd=other".into(),
            ..(*machine(1, Architecture::Arm64, "v1.13.0", Some("ab12"))).clone()
        };
        assert_eq!(
            config(&arm64, Ipv4Addr::LOCALHOST, ""),
            "# U-Boot configuration of 02:00:00:00:00:01, by pxed\n\
             default talos\n\
             \n\
             label talos\n \
             kernel ab12/vmlinuz-v1.13.0-arm64\n \
             initrd ab12/initramfs-v1.13.0-arm64.xz\n \
             append talos.platform=metal slab_nomerge pti=on console=ttyAMA0 console=tty0 consoleblank=0 printk.devkmsg=on \
             init_on_alloc=1 nvme_core.io_timeout=4294967295 selinux=1 module.sig_enforce=1 proc_mem.force_override=never \
             talos.config=http://h/?u=\\${uuid} initrd=other\n"
        );
    }

    proptest! {
        #[test]
        fn any_arguments_survive(text in "[ -~\\\\'${}()a\t\u{e9}]{0,40}") {
            prop_assert_eq!(read_back(&text), text);
        }
    }
}
