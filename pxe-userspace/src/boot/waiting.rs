//! The answers for a machine that waits for a file: they tell the state of the file on its console, and let it ask again until the file is
//! there. A person may put a file there at any time, so they never give up, except on a node that no longer answers.

use std::{fmt::Write as _, time::SystemTime};

use super::{
    follow::{SILENT_MS, follow},
    grub,
    ipxe::name_of,
};
use crate::model::{images::Awaited, inventory::Machine};

/// Returns the script for iPXE. `url` is where the machine got it.
#[must_use]
pub fn ipxe_script(machine: &Machine, awaited: Awaited<'_>, url: &str, now: SystemTime) -> String {
    let name = name_of(machine);
    let seconds = awaited.pause().as_secs();
    let mut script = String::from("#!ipxe\necho\n");
    for line in screen(machine, awaited, now) {
        let _ = writeln!(script, "echo pxed: {line}");
    }
    // A replaced script leaves no image behind, so that the machine may wait for days.
    let _ = write!(
        script,
        "echo pxed: press Ctrl-C for a shell; it asks again every {seconds} s\n\
         :wait\n\
         sleep {seconds} || goto shell\n\
         chain --replace --timeout {SILENT_MS} {url} || goto follow\n\
         :shell\n\
         echo pxed: {name} waits no longer; exit ends the shell\n\
         shell ||\n\
         goto wait\n"
    );
    script + &follow(&name, "wait")
}

/// Returns the configuration for GRUB. `root` is the place of the artifacts in GRUB's notation, as `(tftp,10.0.0.1)`.
///
/// The first configuration asks again in a loop and the others return to it, since GRUB runs a configuration that another one asked for
/// on the other's stack. After six questions in a row without an answer, each of which GRUB repeats for a while, the machine restarts, so that
/// DHCP can name another node.
#[must_use]
pub fn grub_config(machine: &Machine, awaited: Awaited<'_>, root: &str, now: SystemTime) -> String {
    let seconds = awaited.pause().as_secs();
    let mac = machine.mac.to_string().replace(':', "-");
    let itself = grub::quoted_word(&format!("{root}/grub.cfg-01-{mac}"));
    let mut config = format!("# GRUB configuration of {}, by pxed\n", machine.mac);
    for line in screen(machine, awaited, now) {
        let _ = writeln!(config, "echo 'pxed: {line}'");
    }
    let _ = write!(
        config,
        "if [ -z \"$pxed_waits\" ]; then
    echo 'pxed: press Esc for a command line; it asks again every {seconds} s'
    set pxed_waits=yes
    while [ \"$pxed_waits\" = yes ]; do
        set pxed_waits=no
        if sleep --interruptible {seconds}; then
            if source {itself}; then
                set pxed_missed=
            else
                set pxed_waits=yes
                set pxed_missed=x$pxed_missed
                if [ \"$pxed_missed\" = xxxxxx ]; then
                    echo 'pxed: no answer from this node, restarting to ask DHCP again'
                    reboot
                fi
            fi
        fi
    done
else
    set pxed_waits=yes
fi
"
    );
    config
}

/// Returns the lines for the console, in characters that neither iPXE nor GRUB interprets.
fn screen(machine: &Machine, awaited: Awaited<'_>, now: SystemTime) -> Vec<String> {
    let Awaited { path, file } = awaited;
    let name = name_of(machine);
    let mut lines = vec![
        format!("{name} waits for the {} {}", awaited.noun(), sentence(path)),
        format!("it {}", sentence(&file.state.in_words(now).to_string())),
    ];
    if !file.state.is_expected() {
        lines.extend(file.remedy.iter().map(|remedy| format!("to get it: {}", sentence(remedy))));
        lines.push(format!("on the provisioning host, pxed explain {} says more", machine.mac));
    }
    lines
}

/// Encodes a sentence for the console. It keeps more punctuation than [`screen_text`](super::ipxe::screen_text), none of which iPXE, or
/// GRUB within single quotes, interprets.
fn sentence(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " .,:_/()=+@%-".contains(c);
    let shown = |c: char| match c {
        // It ends a command in GRUB, and the part of a message elsewhere.
        ';' => ',',
        c if is_plain(c) => c,
        _ => '?',
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
#[path = "waiting/tests.rs"]
mod tests;
