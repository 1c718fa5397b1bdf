//! What pxed tells the service manager that has started it, as sd_notify(3) specifies: when it is ready, reloads and stops, one line of
//! status, and that it is alive. Without a service manager, all of this does nothing.
//!
//! # The watchdog
//!
//! A keep-alive is sent only after the main loop, a look of the two-second check, and the workers of every interface have all given a sign of
//! life since the last one. So whatever hangs for good lets the service manager end pxed and start it again. What may hang without harm to
//! DHCP does not: a disk (the threads that read files, save the state and verify), an API server, a TFTP or HTTP transfer. A restart would
//! not help there, and would take the answers away from machines that still get them.

mod notify_socket;
mod status_line;
mod watchdog;

use std::{
    env,
    ffi::OsString,
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use self::{
    notify_socket::NotifySocket,
    watchdog::{Silence, Watchdog},
};

pub(super) use self::status_line::StatusLine;

/// The interval at which [`ServiceManager::tick`] has to be called.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// The state of the service, as the service manager knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// A message to the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    phase: Phase,
    status: String,
}

/// The service manager. Nothing here waits for it: what it does not take is sent again at the next tick.
pub(super) struct ServiceManager {
    socket: NotifySocket,
    state: Mutex<State>,
}

struct State {
    wanted: Told,
    told: Told,
    watchdog: Option<Watchdog>,
    /// The watchdog time that replaces one that is too short.
    longer_watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Finds the service manager by the environment of the process.
    pub(super) fn of_process() -> Self {
        Self::find(|name| env::var_os(name), Instant::now())
    }

    fn find(variable: impl Fn(&str) -> Option<OsString>, now: Instant) -> Self {
        let socket = NotifySocket::find(variable("NOTIFY_SOCKET"));
        let timeout = if socket.is_open() {
            watchdog::timeout(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), process::id())
        } else {
            None
        };
        let longer_watchdog = timeout.filter(|&timeout| timeout < watchdog::SHORTEST).map(|timeout| {
            tracing::warn!(
                "WatchdogSec= is {timeout:?}, shorter than pxed can prove that it is alive: using {} s",
                watchdog::SHORTEST.as_secs()
            );
            watchdog::SHORTEST
        });
        let watchdog = timeout.map(|timeout| Watchdog::new(longer_watchdog.unwrap_or(timeout), now));
        let nothing = Told { phase: Phase::Starting, status: String::new() };
        let state = State { wanted: nothing.clone(), told: nothing, watchdog, longer_watchdog };
        Self { socket, state: Mutex::new(state) }
    }

    /// Returns `true` if there is a service manager. Without one, [`Self::tick`] need not be called.
    pub(super) fn is_there(&self) -> bool {
        self.socket.is_open()
    }

    /// Says in one line what pxed does, and what is wrong.
    pub(super) fn status(&self, status: &StatusLine<'_>) {
        if self.socket.is_open() {
            let status = status.to_string();
            self.change(|wanted| wanted.status = status);
        }
    }

    /// Says why pxed does not start.
    pub(super) fn failed(&self, error: &anyhow::Error) {
        let status = status_line::one_line(&format!("{error:#}"));
        self.change(|wanted| wanted.status = status);
    }

    /// Says that pxed serves, or waits for something to serve.
    pub(super) fn ready(&self) {
        self.change(|wanted| wanted.phase = Phase::Ready);
    }

    /// Says that the configuration is being read again.
    pub(super) fn reloading(&self) {
        self.change(|wanted| wanted.phase = Phase::Reloading);
    }

    /// Says that pxed ends.
    pub(super) fn stopping(&self) {
        self.change(|wanted| {
            wanted.phase = Phase::Stopping;
            wanted.status = "Stopping: running transfers may finish".to_owned();
        });
    }

    /// Notes that a look at interfaces and servers has come back, and has found no worker stuck.
    pub(super) fn looked(&self) {
        if let Some(watchdog) = &mut self.state().watchdog {
            watchdog.looked();
        }
    }

    /// Sends what has not been sent yet, and a keep-alive if one is due. The main loop calls it every [`TICK`], if there is a service
    /// manager.
    pub(super) fn tick(&self, now: Instant) {
        let state = &mut *self.state();
        self.tell(state);
        let Some(watchdog) = &mut state.watchdog else { return };
        if watchdog.is_due(now) && self.socket.send("WATCHDOG=1") {
            watchdog.sent(now);
        }
        match watchdog.silence(now) {
            Some(Silence::Begins { end_in }) => tracing::error!(
                "interfaces and servers could not be checked, or a worker is stuck: the watchdog restarts pxed in {} s unless that ends",
                end_in.as_secs()
            ),
            Some(Silence::Ends) => tracing::info!("interfaces and servers are checked again"),
            None => {}
        }
    }

    fn change(&self, change: impl FnOnce(&mut Told)) {
        let state = &mut *self.state();
        change(&mut state.wanted);
        self.tell(state);
    }

    /// Sends the differences between what the service manager knows and what it should know.
    fn tell(&self, state: &mut State) {
        let State { wanted, told, longer_watchdog, .. } = state;
        if wanted == told && longer_watchdog.is_none() || !self.socket.is_open() {
            return;
        }
        let mut lines = Vec::new();
        if let Some(longer) = longer_watchdog {
            lines.push(format!("WATCHDOG_USEC={}", longer.as_micros()));
        }
        if wanted.phase != told.phase {
            lines.extend(match wanted.phase {
                Phase::Starting => None,
                Phase::Ready => Some("READY=1".to_owned()),
                // Type=notify-reload, which systemd has since version 253, wants the time.
                Phase::Reloading => Some(format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds())),
                Phase::Stopping => Some("STOPPING=1".to_owned()),
            });
        }
        if wanted.status != told.status {
            lines.push(format!("STATUS={}", wanted.status));
        }
        if self.socket.send(&lines.join("\n")) {
            *longer_watchdog = None;
            told.clone_from(wanted);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time of CLOCK_MONOTONIC.
fn monotonic_microseconds() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

#[cfg(test)]
mod tests;
