//! The part of an iPXE script that leaves a node that no longer answers.
//!
//! A node that dies takes with it every URL of its script, so DHCP is asked again. Whichever node answers then names the URL of its own
//! script, which takes the place of this one. iPXE keeps its settings and its loaded files, so the next script goes on where this one ended.

/// The time without progress after which a download fails, in milliseconds. Without a limit, iPXE would wait for a host that has lost its
/// power for ever: it only receives, and nothing tells it that nobody sends. It is long enough for a connection that suffers from losses.
pub(super) const STALLED_MS: u32 = 60_000;

/// The same for a script or another small answer.
pub(super) const SILENT_MS: u32 = 10_000;

/// Returns the commands at the label `follow`: they ask DHCP on the interface that the machine boots by, and run the script that it names.
/// If that fails, they go to the label `otherwise`.
///
/// `netX` is the interface that was opened last. A failed `ifconf` closes it, and then `netX` is none, so its number is found before. The
/// configurator is named since builds with IPv6 would wait for a router otherwise.
pub(super) fn follow(name: &str, otherwise: &str) -> String {
    format!(
        "\n\
         :follow\n\
         echo pxed: {name} gets no answer from this node, asking DHCP again\n\
         isset ${{pxed-nic}} && goto dhcp ||\n\
         set pxed-nic:int32 0\n\
         :nic\n\
         isset ${{net${{pxed-nic}}/mac}} || goto dhcp\n\
         iseq ${{net${{pxed-nic}}/mac}} ${{netX/mac}} && goto dhcp ||\n\
         inc pxed-nic\n\
         goto nic\n\
         :dhcp\n\
         ifconf --configurator dhcp netX || ifconf --configurator dhcp net${{pxed-nic}} || goto {otherwise}\n\
         chain --replace --timeout {SILENT_MS} ${{filename}} || goto {otherwise}\n"
    )
}
