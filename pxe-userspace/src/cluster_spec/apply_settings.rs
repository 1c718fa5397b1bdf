//! Applies the annotations to all machines.

use super::{
    boot_check::BootCheck,
    candidate::{Candidate, Resolved},
    machine_settings::Applier,
};

/// Applies the annotations to all machines, and checks what they say about booting. Returns what is needed to point out those for single
/// machines that do not exist.
pub(crate) fn apply<'d>(candidates: &mut [Candidate<'d>], resolved: &mut Resolved) -> Applier<'d> {
    let mut applier = Applier::default();
    let mut check = BootCheck::default();
    for Candidate { machine, origin, sources, of_one, fault } in candidates {
        let (of_this_machine, of_boot) = applier.apply(sources, machine);
        *of_one = of_this_machine;
        if let Some((document, error)) = applier.fault {
            fault.get_or_insert(document.fault(error));
        }
        for error in applier.errors.drain(..).chain(check.machine(machine, origin, &of_boot)) {
            let error = resolved.faults.add(error);
            fault.get_or_insert(error);
        }
    }
    resolved.warnings.extend(check.warnings());
    applier
}
