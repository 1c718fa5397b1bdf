//! The steps of a boot that a person sees first, each of one stage or more, and the names by which stages are chosen.

use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::stage::{Stage, UnknownStage};

/// A step of a boot. The variants are in the order of a boot; a machine that is sent to its disk or fails leaves the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// pxed has heard nothing of it.
    NeverSeen,
    /// Its firmware asks for an address.
    Asking,
    /// It was offered one.
    Offered,
    /// It has one.
    Addressed,
    /// It loads a network boot program.
    Loader,
    /// iPXE asks for an address, and gets it.
    Ipxe,
    /// It has its script, or waits for the files that the script names.
    Script,
    /// It loads its kernel.
    Kernel,
    /// It loads its initramfs, and starts both.
    Initramfs,
    /// An operating system has its address.
    Running,
    /// Its Talos API answers.
    Up,
    /// It boots, or runs, from its own disk.
    Disk,
    /// A step failed.
    Failed,
}

impl Step {
    /// All steps, in the order of a boot.
    pub const ALL: [Self; 13] = [
        Self::NeverSeen,
        Self::Asking,
        Self::Offered,
        Self::Addressed,
        Self::Loader,
        Self::Ipxe,
        Self::Script,
        Self::Kernel,
        Self::Initramfs,
        Self::Running,
        Self::Up,
        Self::Disk,
        Self::Failed,
    ];

    /// Returns the name in the API and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverSeen => "never-seen",
            Self::Asking => "asking",
            Self::Offered => "offered",
            Self::Addressed => "addressed",
            Self::Loader => "loader",
            Self::Ipxe => "ipxe",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::Running => "running",
            Self::Up => "up",
            Self::Disk => "disk",
            Self::Failed => "failed",
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Stage {
    /// Returns the step that the stage belongs to.
    #[must_use]
    pub const fn step(self) -> Step {
        match self {
            Self::NeverSeen => Step::NeverSeen,
            Self::Discovering => Step::Asking,
            Self::Offered => Step::Offered,
            Self::Addressed => Step::Addressed,
            Self::LoadingLoader | Self::LoaderDone => Step::Loader,
            Self::IpxeDiscovering | Self::IpxeAddressed => Step::Ipxe,
            Self::AwaitingFiles | Self::Scripted => Step::Script,
            Self::LoadingKernel | Self::KernelDone => Step::Kernel,
            Self::LoadingInitramfs | Self::Booting => Step::Initramfs,
            Self::Running => Step::Running,
            Self::Up => Step::Up,
            Self::SentToDisk | Self::OnDisk => Step::Disk,
            Self::Failed => Step::Failed,
        }
    }
}

/// Stages that are chosen together, by the name of one or by that of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages(u32);

impl Stages {
    /// Returns `true` if a stage is among them.
    #[must_use]
    pub const fn contain(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u32 != 0
    }

    /// Returns the stages of both.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Returns all names, for the message about one that does not exist: the steps, then the stages that have names of their own.
    #[must_use]
    pub fn names() -> String {
        let stages = Stage::ALL.map(Stage::name);
        let stages = stages.into_iter().filter(|name| !Step::ALL.iter().any(|step| step.name() == *name));
        Step::ALL.iter().map(|step| step.name()).chain(stages).collect::<Vec<_>>().join(", ")
    }
}

impl From<Stage> for Stages {
    fn from(stage: Stage) -> Self {
        Self(1 << stage as u32)
    }
}

impl FromStr for Stages {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, UnknownStage> {
        // The name of older versions.
        let name = if name == "waiting" { Stage::NeverSeen.name() } else { name };
        let is_named = |stage: &Stage| stage.name() == name || stage.step().name() == name;
        let named =
            Stage::ALL.into_iter().filter(is_named).fold(Self::default(), |named, stage| named.and(stage.into()));
        if named == Self::default() { Err(UnknownStage) } else { Ok(named) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str) -> Vec<&'static str> {
        let stages: Stages = name.parse().unwrap();
        Stage::ALL.into_iter().filter(|&stage| stages.contain(stage)).map(Stage::name).collect()
    }

    #[test]
    fn steps_group_the_stages_in_the_order_of_a_boot() {
        let mut steps = Stage::ALL.map(Stage::step).to_vec();
        steps.dedup();
        assert_eq!(steps, Step::ALL);
        assert!(Step::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn names_of_stages_and_steps_choose_stages() {
        for stage in Stage::ALL {
            assert_eq!(chosen(stage.name()), [stage.name()]);
        }
        for step in Step::ALL {
            let of_step: Vec<_> =
                Stage::ALL.into_iter().filter(|stage| stage.step() == step).map(Stage::name).collect();
            assert_eq!(chosen(step.name()), of_step, "{}", step.name());
        }
        assert_eq!(chosen("kernel"), ["loading-kernel", "kernel-done"]);
        assert_eq!(chosen("waiting"), ["never-seen"]);
        for unknown in ["", "Kernel", "kernel ", "kernel,script", "lost"] {
            assert_eq!(unknown.parse::<Stages>(), Err(UnknownStage), "{unknown}");
        }
        for name in Stages::names().split(", ") {
            assert!(name.parse::<Stages>().is_ok(), "{name}");
        }
    }
}
