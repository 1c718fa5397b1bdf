//! The system calls that this process can make from now on, by seccomp.
//!
//! Three answers: what pxed and the C library use is allowed, what only an intruder would use ends the process, and for everything
//! else the kernel says that it has no such call (`ENOSYS`). The last is what a C library expects of an older kernel: it falls back on another call. So a
//! newer one never kills pxed, and no packet can, since no code of pxed's makes a call of the second kind.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::system_call_list::{ALLOWED, HOSTILE, PROGRAMS};
use crate::model::confinement::Measure;

/// The families of sockets that pxed and the C library use.
const FAMILIES: [i32; 6] =
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_XDP];

/// The requests of prctl(2) that name threads and memory, or only ask.
const PRCTL: [i32; 8] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_VMA,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_SECCOMP,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_TIMERSLACK,
];

/// The flags of clone(2) that make namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Filters the system calls of this thread, and of those that it starts.
pub(super) fn filter(runs_programs: bool) -> Measure {
    const NAME: &str = "seccomp";
    let programs = match programs(runs_programs) {
        Ok(programs) => programs,
        Err(error) => return Measure::lacking(NAME, format!("no filter of system calls for this processor: {error}")),
    };
    // The last one forbids the others' installation.
    for program in &programs {
        if let Err(error) = apply_filter(program) {
            return Measure::lacking(
                NAME,
                format!("the kernel refuses a filter of system calls ({error}); one with CONFIG_SECCOMP_FILTER has it"),
            );
        }
    }
    Measure::taken(NAME, "system calls by seccomp")
}

/// Returns the filters, in the order in which they are installed. The kernel takes the strictest answer.
fn programs(runs_programs: bool) -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let hostile = HOSTILE.iter().chain(if runs_programs { &[][..] } else { PROGRAMS });
    let hostile = always(hostile.copied());
    let hostile = SeccompFilter::new(hostile, SeccompAction::Allow, SeccompAction::KillProcess, arch)?;
    let mut allowed = always(ALLOWED.iter().chain(if runs_programs { PROGRAMS } else { &[] }).copied());
    allowed.extend(conditional()?);
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let allowed = SeccompFilter::new(allowed, absent, SeccompAction::Allow, arch)?;
    Ok([hostile.try_into()?, allowed.try_into()?])
}

fn always(calls: impl Iterator<Item = c_long>) -> BTreeMap<i64, Vec<SeccompRule>> {
    calls.map(|call| (call, Vec::new())).collect()
}

/// Returns the calls that are allowed with some arguments alone. clone3(2) has its flags in memory, where no filter sees them, so it is absent
/// and libc uses clone(2).
fn conditional() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let is = |argument, value: i32| one(argument, SeccompCmpOp::Eq, value);
    let is_without = |argument, flag: i32| one(argument, SeccompCmpOp::MaskedEq(u64::from(flag.unsigned_abs())), 0);
    let any_of = |values: &[i32]| values.iter().map(|value| is(0, *value)).collect::<Result<Vec<_>, _>>();
    Ok(BTreeMap::from([
        (libc::SYS_socket, any_of(&FAMILIES)?),
        (libc::SYS_socketpair, any_of(&[libc::AF_UNIX])?),
        (libc::SYS_prctl, any_of(&PRCTL)?),
        (libc::SYS_clone, vec![is_without(0, NAMESPACES)?]),
        // Memory is written or executed, never both.
        (libc::SYS_mmap, vec![is_without(2, libc::PROT_EXEC)?, is_without(2, libc::PROT_WRITE)?]),
        (libc::SYS_mprotect, vec![is_without(2, libc::PROT_EXEC)?]),
    ]))
}

fn one(argument: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompRule, BackendError> {
    let value = u64::from(value.unsigned_abs());
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn filters_are_made_for_this_processor() {
        for runs_programs in [false, true] {
            let [hostile, allowed] = programs(runs_programs).unwrap();
            // The kernel's limit.
            assert!(hostile.len() < 4_096 && allowed.len() < 4_096, "{} {}", hostile.len(), allowed.len());
        }
    }

    /// Set in the process that makes the call of this name.
    const CALL: &str = "PXED_TEST_SYSTEM_CALL";

    /// Runs the test below in a process of its own, since a filter stays, and may end it.
    fn outcome(call: &str) -> std::process::Output {
        let test = "confine::system_calls::tests::call_is_made_behind_the_filter";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CALL, call).output().unwrap()
    }

    #[test]
    fn call_is_made_behind_the_filter() {
        let Ok(call) = std::env::var(CALL) else { return };
        assert!(filter(call == "program").in_force);
        match &*call {
            "hostile" => drop(nix::unistd::chroot("/")),
            "program" | "forbidden-program" => {
                let status = std::process::Command::new("/bin/true").status().unwrap();
                assert!(status.success());
            }
            "absent" => {
                let refused = |family| {
                    let socket = rustix::net::socket(family, rustix::net::SocketType::DGRAM, None);
                    assert_eq!(socket.unwrap_err(), rustix::io::Errno::NOSYS);
                };
                refused(rustix::net::AddressFamily::VSOCK);
                refused(rustix::net::AddressFamily::BLUETOOTH);
                assert_eq!(nix::unistd::sethostname("x"), Err(nix::errno::Errno::ENOSYS));
                // What a server needs is there.
                let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let client = std::thread::spawn({
                    let address = server.local_addr().unwrap();
                    move || std::net::TcpStream::connect(address).unwrap()
                });
                server.accept().unwrap();
                client.join().unwrap();
                assert!(std::net::ToSocketAddrs::to_socket_addrs("localhost:80").unwrap().next().is_some());
                let caught = std::panic::catch_unwind(|| panic!("a panic is caught, with its backtrace"));
                assert!(caught.is_err());
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn hostile_call_ends_the_process_and_an_absent_one_does_not() {
        use std::os::unix::process::ExitStatusExt as _;
        for call in ["hostile", "forbidden-program"] {
            let ended = outcome(call).status;
            // A program is started by a child of its own, and it is this child that ends.
            let is_ended = ended.signal() == Some(libc::SIGSYS) || call == "forbidden-program" && !ended.success();
            assert!(is_ended, "{call}: {ended}");
        }
        for call in ["absent", "program"] {
            let output = outcome(call);
            assert!(output.status.success(), "{call}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn call_has_one_answer() {
        let (allowed, hostile): (BTreeSet<_>, BTreeSet<_>) =
            (ALLOWED.iter().collect(), HOSTILE.iter().chain(PROGRAMS).collect());
        assert_eq!((allowed.len(), hostile.len()), (ALLOWED.len(), HOSTILE.len() + PROGRAMS.len()), "twice in a list");
        assert_eq!(allowed.intersection(&hostile).count(), 0);
        for call in conditional().unwrap().into_keys() {
            assert!(!allowed.contains(&call) && !hostile.contains(&call), "{call}");
        }
    }
}
