//! Confines this process before it listens: it becomes a user of its own and gives up what it does not use.
//!
//! Every measure belongs to a thread, and threads inherit it. So [`enter`] is called while there is only one.

mod access;
mod filesystem;
mod ownership;
mod plan;
mod privileges;
mod system_call_list;
mod system_calls;
mod user;

use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use self::{
    access::{Use, obstacle},
    ownership::{Content, hand_over},
    user::{Account, Accounts, USUAL},
};
pub use self::{plan::Plan, user::UserName};
use crate::model::confinement::{Confinement, Measure};

/// The directory of pxed's own records below the artifacts directory.
const RECORDS: &str = ".pxed";

/// The reason why pxed cannot be confined as it was told to. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Only root becomes another user.
    #[error(
        "--user {wanted}: pxed was started as the user with number {current}, and only root may become another one. Start it as root, or \
         leave --user away"
    )]
    NotRoot {
        /// The user that was named.
        wanted: UserName,
        /// The number of the user who started pxed.
        current: u32,
    },
    /// There is no such user.
    #[error(
        "--user {0}: there is no such user in /etc/passwd. Create it: useradd --system --shell /usr/sbin/nologin {0}; or name a user by \
         its number"
    )]
    NoSuchUser(UserName),
    /// The accounts of the host cannot be read.
    #[error("--user: {0}")]
    Accounts(String),
    /// The kernel refuses.
    #[error("cannot {what}: {error}")]
    Refused {
        /// The step that failed.
        what: String,
        /// The answer of the kernel.
        error: std::io::Error,
    },
    /// The user may not use files that the options name.
    #[error(
        "cannot start as the user {user}:\n  {}\nOr let pxed run as another user (--user NAME; --user root as before)", obstacles.join("\n  ")
    )]
    NoAccess {
        /// The user.
        user: String,
        /// The files, each with what keeps the user from them.
        obstacles: Vec<String>,
    },
}

/// Confines this thread and all that it starts later. It must be the only one.
///
/// # Errors
///
/// If pxed cannot become the user that was named, or that user could not serve. A measure that the kernel does not know is no error: the
/// result says so.
pub fn enter(plan: &Plan) -> Result<Confinement, ConfineError> {
    let (account, mut measures) = become_user(plan)?;
    measures.extend(privileges::give_up(plan.capabilities));
    if let Some(account) = account {
        measures.extend(check_access(plan, &account)?);
    }
    // What is not there yet could not be made by then.
    create_directories(plan);
    measures.push(filesystem::restrict(plan));
    measures.push(system_calls::filter(plan.runs_programs));
    Ok(Confinement { measures })
}

/// Becomes the user of the plan. Returns it, if there is a change.
fn become_user(plan: &Plan) -> Result<(Option<Account>, Vec<Measure>), ConfineError> {
    const NAME: &str = "user";
    let current = geteuid();
    let wanted = match &plan.user {
        Some(wanted) => Some(wanted.clone()),
        None => current.is_root().then(|| UserName::Name(USUAL.to_owned())),
    };
    let Some(wanted) = wanted else {
        let number = current.as_raw();
        return Ok((None, vec![Measure::taken(NAME, format!("user {number}, as it was started"))]));
    };
    let account = Accounts::of_host().map_err(ConfineError::Accounts)?.find(&wanted);
    let account = match (account, &plan.user) {
        (Some(account), _) => account,
        (None, Some(wanted)) => return Err(ConfineError::NoSuchUser(wanted.clone())),
        (None, None) => {
            let reason = format!(
                "pxed stays root, because there is no user {USUAL}. Create it: useradd --system --shell /usr/sbin/nologin {USUAL}; or name \
                 another one with --user"
            );
            return Ok((None, vec![Measure::lacking(NAME, reason)]));
        }
    };
    if account.uid == 0 && current.is_root() {
        return Ok((Some(account), vec![Measure::lacking(NAME, "pxed stays root, as --user says")]));
    }
    if account.uid != current.as_raw() {
        if !current.is_root() {
            return Err(ConfineError::NotRoot { wanted, current: current.as_raw() });
        }
        hand_directories_over(plan, &account);
        let refused = |error| ConfineError::Refused { what: format!("become the user {}", account.name), error };
        privileges::switch(&account).map_err(refused)?;
    }
    let measure = Measure::taken(NAME, format!("user {}", account.name));
    Ok((Some(account), vec![measure]))
}

/// Creates the directories that pxed keeps itself. What fails here fails again, with a message, when the directory is used.
fn create_directories(plan: &Plan) {
    let artifacts = plan.fetches.then_some(&plan.artifacts);
    for directory in [&plan.state].into_iter().chain(artifacts).chain(&plan.sockets) {
        let _ = std::fs::create_dir_all(directory);
    }
}

/// Creates the directories that pxed keeps itself and gives them to the user.
fn hand_directories_over(plan: &Plan, account: &Account) {
    let Account { uid, gid, .. } = *account;
    let is_own = !plan.artifacts.exists() || plan.artifacts.join(RECORDS).exists();
    // A directory such as /run is not pxed's.
    let is_pxeds = |directory: &&PathBuf| directory.ends_with(USUAL) || !directory.exists();
    let new_sockets: Vec<_> = plan.sockets.iter().filter(is_pxeds).collect();
    create_directories(plan);
    hand_over(&plan.state, uid, gid, Content::All);
    new_sockets.iter().for_each(|directory| hand_over(directory, uid, gid, Content::All));
    if plan.fetches {
        // Another directory is somebody's: whoever keeps files there decides who may write there.
        if is_own {
            hand_over(&plan.artifacts, uid, gid, Content::Directories);
        }
    }
    hand_over(&plan.artifacts.join(RECORDS), uid, gid, Content::All);
}

/// Checks that the user may use what the options name. Machines boot without downloads, so the directory for them is no error.
fn check_access(plan: &Plan, account: &Account) -> Result<Vec<Measure>, ConfineError> {
    let obstacle = |path: &Path, wanted| obstacle(path, wanted, &account.name);
    let to_read = plan.read.iter().chain([&plan.artifacts]).filter_map(|path| obstacle(path, Use::Read));
    let obstacles: Vec<_> = to_read.chain(obstacle(&plan.state, Use::Write)).collect();
    if !obstacles.is_empty() {
        return Err(ConfineError::NoAccess { user: account.name.clone(), obstacles });
    }
    let downloads = plan.fetches.then(|| obstacle(&plan.artifacts, Use::Write)).flatten();
    Ok(downloads
        .map(|obstacle| {
            Measure::lacking("downloads", format!("nothing can be downloaded: {obstacle}; or use --offline"))
        })
        .into_iter()
        .collect())
}
