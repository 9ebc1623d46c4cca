//! Processes that live and end with this one.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::error::{Context as _, Error, Result};
use crate::sh;
use crate::signals::Stop;

/// How long a child may take to leave before it is killed.
const FAREWELL: Duration = Duration::from_secs(10);

/// How often children are looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// The lines of its log that are shown of a child that died.
const LAST_WORDS: usize = 20;

/// The children and the wish to stop; dropping it stops all of them.
pub(crate) struct Children {
    running: Vec<Running>,
    stop: Receiver<Stop>,
}

struct Running {
    name: String,
    log: PathBuf,
    child: Child,
}

/// Why waiting ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    /// What was waited for has come.
    Done,
    /// Somebody asked to stop.
    Asked,
}

impl Children {
    /// No children yet; `stop` brings the wish to stop.
    pub(crate) fn new(stop: Receiver<Stop>) -> Self {
        Self {
            running: Vec::new(),
            stop,
        }
    }

    /// Starts a child that writes to `log`. In a process group of its own it
    /// gets no Ctrl-C from the terminal, so that it is stopped once, by us.
    pub(crate) fn start(&mut self, name: &str, command: &mut Command, log: PathBuf) -> Result {
        println!("  $ {}", sh::shown(command));
        let file = File::create(&log).context(format!("making {}", log.display()))?;
        let copy = file
            .try_clone()
            .context(format!("opening {}", log.display()))?;
        let child = command.stdout(file).stderr(copy).process_group(0).spawn();
        let child = child.context(format!("starting {name}"))?;
        self.running.push(Running {
            name: name.to_owned(),
            log,
            child,
        });
        Ok(())
    }

    /// Waits until `done`, until somebody asks to stop, or, with an error, until
    /// a child dies or the time is over.
    pub(crate) fn wait(
        &mut self,
        what_for: &str,
        limit: Option<Duration>,
        mut done: impl FnMut() -> bool,
    ) -> Result<Ended> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            self.check()?;
            if done() {
                return Ok(Ended::Done);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let logs: Vec<String> = self.running.iter().map(Running::last_words).collect();
                return Err(Error::new(format!(
                    "{what_for}: not in time\n{}",
                    logs.join("\n")
                )));
            }
            if self.stop.recv_timeout(GLANCE).is_ok() {
                return Ok(Ended::Asked);
            }
        }
    }

    /// An error about the first child that is dead.
    fn check(&mut self) -> Result {
        for running in &mut self.running {
            let status = running.child.try_wait().context("looking at a child")?;
            if let Some(status) = status {
                let (name, words) = (&running.name, running.last_words());
                return Err(Error::new(format!("{name} died ({status})\n{words}")));
            }
        }
        Ok(())
    }

    /// Asks all children to leave, waits, and kills those that stay; a second
    /// wish to stop shortens the wait.
    pub(crate) fn stop(&mut self) {
        for running in &mut self.running {
            running.signal(Signal::SIGTERM);
        }
        let deadline = Instant::now() + FAREWELL;
        loop {
            self.running.retain_mut(|running| running.ended().is_none());
            if self.running.is_empty() || Instant::now() >= deadline {
                break;
            }
            if self.stop.recv_timeout(GLANCE).is_ok() {
                break;
            }
        }
        for mut running in self.running.drain(..) {
            sh::say(format!(
                "killing {}, which did not leave in time",
                running.name
            ));
            // Both fail only for a process that is gone already.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn signal(&mut self, signal: Signal) {
        // A child that was waited for may have given its id to another process.
        if self.ended().is_none()
            && let Ok(id) = i32::try_from(self.child.id())
        {
            let _ = signal::kill(Pid::from_raw(id), signal);
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n  ");
        format!("--- {}'s last words:\n  {last}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals;
    use std::sync::mpsc::{self, Sender};

    fn shell(script: &str) -> Command {
        let mut command = sh::program("sh");
        command.args(["-c", script]);
        command
    }

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("roundelay-{name}-{}.log", std::process::id()))
    }

    fn children() -> (Sender<Stop>, Children) {
        let (sender, receiver) = mpsc::channel();
        (sender, Children::new(receiver))
    }

    const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

    #[test]
    fn a_dead_child_is_named_with_its_last_words() -> Result {
        let (_sender, mut children) = children();
        children.start("node-1", &mut shell("echo no disk; exit 3"), log("dead"))?;
        let died = children.wait("never", LIMIT, || false);
        let text = died
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            text.contains("node-1 died") && text.contains("no disk"),
            "{text}"
        );
        fs::remove_file(log("dead")).context("removing a log")
    }

    #[test]
    fn children_are_asked_before_they_are_killed() -> Result {
        let mut children = Children::new(signals::catch()?);
        let path = log("asked");
        let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        children.start("node-1", &mut shell(script), path.clone())?;
        let written = |word: &str| fs::read_to_string(&path).is_ok_and(|text| text.contains(word));
        assert_eq!(
            children.wait("ready", LIMIT, || written("ready"))?,
            Ended::Done
        );
        signal::kill(Pid::this(), Signal::SIGTERM).context("asking this process to stop")?;
        assert_eq!(children.wait("never", LIMIT, || false)?, Ended::Asked);
        children.stop();
        assert!(written("bye"));
        fs::remove_file(&path).context("removing a log")
    }

    #[test]
    fn a_second_wish_to_stop_kills() -> Result {
        let (sender, mut children) = children();
        let path = log("deaf");
        let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        children.start("deaf", &mut shell(script), path.clone())?;
        let ready = || fs::read_to_string(&path).is_ok_and(|text| text.contains("ready"));
        children.wait("ready", LIMIT, ready)?;
        sender.send(Stop).context("sending")?;
        let started = Instant::now();
        children.stop();
        assert!(started.elapsed() < FAREWELL);
        fs::remove_file(&path).context("removing a log")
    }
}
