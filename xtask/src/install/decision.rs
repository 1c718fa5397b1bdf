//! The decision about missing packages, from the command line, the terminal and the privilege.

/// The command line's word on installing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Neither option: the user at the terminal is asked.
    Ask,
    /// `--yes`.
    Yes,
    /// `--no-install`.
    No,
}

/// The way to run commands as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privilege {
    /// Directly.
    Root,
    /// Through sudo.
    Sudo,
    /// Impossible.
    None,
}

/// The facts that decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) consent: Consent,
    /// A user can be asked.
    pub(super) terminal: bool,
    pub(super) privilege: Privilege,
    /// This host has dpkg and apt.
    pub(super) debian: bool,
    /// apt has something to do.
    pub(super) needs_apt: bool,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Install.
    Install,
    /// Ask, and install if the user agrees.
    Ask,
    /// Install nothing, for this reason.
    Leave(Reason),
}

/// The reason to install nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// `--no-install`.
    Told,
    /// No terminal to ask at.
    NobodyToAsk,
    /// Neither root nor sudo.
    NoPrivilege,
    /// Neither dpkg nor apt.
    NotDebian,
}

impl Situation {
    /// Returns the decision. Call it only if something is missing.
    pub(super) fn decide(self) -> Decision {
        let Self { consent, terminal, privilege, debian, needs_apt } = self;
        match consent {
            Consent::No => Decision::Leave(Reason::Told),
            _ if needs_apt && !debian => Decision::Leave(Reason::NotDebian),
            _ if needs_apt && privilege == Privilege::None => Decision::Leave(Reason::NoPrivilege),
            Consent::Yes => Decision::Install,
            Consent::Ask if terminal => Decision::Ask,
            Consent::Ask => Decision::Leave(Reason::NobodyToAsk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_follows_the_flags_the_terminal_and_the_privilege() {
        use Consent::{Ask, No, Yes};
        use Privilege::{None, Root, Sudo};
        let leave = Decision::Leave;
        for (consent, terminal, privilege, debian, expected) in [
            (Ask, true, Root, true, Decision::Ask),
            (Ask, true, Sudo, true, Decision::Ask),
            (Ask, false, Root, true, leave(Reason::NobodyToAsk)),
            (Yes, false, Root, true, Decision::Install),
            (Yes, true, Sudo, true, Decision::Install),
            (Yes, false, None, true, leave(Reason::NoPrivilege)),
            (Ask, true, None, true, leave(Reason::NoPrivilege)),
            (Yes, true, Root, false, leave(Reason::NotDebian)),
            (Ask, true, None, false, leave(Reason::NotDebian)),
            (No, true, Root, true, leave(Reason::Told)),
            (No, false, None, false, leave(Reason::Told)),
        ] {
            let situation = Situation { consent, terminal, privilege, debian, needs_apt: true };
            assert_eq!(situation.decide(), expected, "{situation:?}");
        }
    }

    #[test]
    fn cargo_needs_neither_root_nor_debian() {
        let (privilege, debian) = (Privilege::None, false);
        let situation = Situation { consent: Consent::Yes, terminal: false, privilege, debian, needs_apt: false };
        assert_eq!(situation.decide(), Decision::Install);
    }
}
