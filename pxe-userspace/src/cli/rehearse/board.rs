//! A board with one line per machine, redrawn in place.

use std::io::{self, Write};

use pxe_common::MacAddr;
use pxe_rehearse::{Firmware, MachineReport, Outcome, Seen};

/// The board on the terminal.
pub(super) struct Board {
    rows: Vec<(MacAddr, String)>,
    is_drawn: bool,
}

impl Board {
    pub(super) fn new(machines: &[(MacAddr, Firmware)]) -> Self {
        Self { rows: machines.iter().map(|&(mac, _)| (mac, format!("{mac}"))).collect(), is_drawn: false }
    }

    /// Takes in an event and redraws the board.
    pub(super) fn show(&mut self, out: &mut impl Write, seen: Seen<'_>) -> io::Result<()> {
        let (mac, text) = match seen {
            Seen::Step(note) => (note.mac, note.to_string()),
            Seen::Done(report) => (report.mac, line(report)),
        };
        if let Some(row) = self.rows.iter_mut().find(|row| row.0 == mac) {
            row.1 = text;
        }
        if self.is_drawn {
            write!(out, "\x1b[{}A", self.rows.len())?;
        }
        self.is_drawn = true;
        let width = width();
        for (_, row) in &self.rows {
            let row: String = row.chars().filter(|c| !c.is_control()).take(width).collect();
            writeln!(out, "\r\x1b[2K{row}")?;
        }
        out.flush()
    }
}

/// Returns the width of the terminal, less one so that nothing wraps.
fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    // A terminal that does not know its size says 0.
    if columns == 0 { 79 } else { columns.max(40) - 1 }
}

/// Describes a machine that is done, in one line.
pub(super) fn line(report: &MachineReport) -> String {
    let firmware = format!("{:?}", report.firmware);
    let address = report.address.map_or_else(|| "no address".to_owned(), |address| address.to_string());
    let seconds = report.took.as_secs_f64();
    let outcome = match &report.outcome {
        Outcome::Booted => "booted".to_owned(),
        Outcome::Reached => "came as far as asked".to_owned(),
        Outcome::Disk => "sent to its disk".to_owned(),
        Outcome::Failed { stage, reason } => format!("FAILED at {stage}: {reason}"),
    };
    format!("{} {firmware:<9} {address:<15} {seconds:7.2} s  {outcome}", report.mac)
}
