//! The user, the capabilities and the other attributes of a process.

use std::io;

use nix::{
    sys::resource::{Resource, setrlimit},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use rustix::{
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::{set_keep_capabilities, set_no_new_privs},
};

use super::user::Account;
use crate::{capabilities::Capabilities, model::confinement::Measure};

/// Becomes another user, with its groups and with the permitted capabilities of before.
pub(super) fn switch(account: &Account) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<_> = account.groups.iter().copied().map(Gid::from_raw).collect();
    set_keep_capabilities(true)?;
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    set_keep_capabilities(false)?;
    Ok(())
}

/// Gives up all capabilities but these, the way to new ones, and core dumps.
pub(super) fn give_up(all_but: Capabilities) -> Vec<Measure> {
    let given_up = all_but.keep_alone();
    let kept = Capabilities::held();
    let kept = if kept.is_empty() { "no capabilities".to_owned() } else { kept.to_string() };
    let mut measures = vec![match given_up {
        Ok(()) => Measure::taken("capabilities", kept),
        // A filter of the service manager's may forbid capset(2), for example.
        Err(error) => {
            Measure::lacking("capabilities", format!("the kernel refuses to give up others than {kept}: {error}"))
        }
    }];
    measures.push(match set_no_new_privs(true) {
        Ok(()) => Measure::taken("no_new_privs", "no_new_privs"),
        Err(error) => Measure::lacking("no_new_privs", format!("the kernel refuses no_new_privs: {error}")),
    });
    // Memory has keys and machines' secrets in it.
    let dumps = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(io::Error::from)
        .and_then(|()| Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?));
    measures.push(match dumps {
        Ok(()) => Measure::taken("core_dumps", "no core dumps"),
        Err(error) => Measure::lacking("core_dumps", format!("core dumps cannot be switched off: {error}")),
    });
    measures
}
