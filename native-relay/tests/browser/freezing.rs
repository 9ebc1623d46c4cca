//! Ways to freeze a page.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::webdriver::{Browser, Tab};

/// How a page is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freeze {
    /// As Chromium freezes tabs in the background: no timer and no handler
    /// runs, while its transports go on to acknowledge what comes.
    Tab,
    /// The processes that run pages are stopped, with all that they do: what a
    /// busy or sleeping computer does to a page, and any browser can be told.
    Process,
}

/// A page that is frozen until this is dropped: what is stopped can neither be
/// asked nor ended.
pub(crate) struct Frozen<'a> {
    tab: &'a Tab<'a>,
    how: Freeze,
    stopped: Vec<u32>,
}

impl<'a> Frozen<'a> {
    /// Freezes a page in a browser of its own. Nothing may be asked of that
    /// browser until it thaws.
    pub(crate) fn new(browser: &Browser, tab: &'a Tab<'a>, how: Freeze) -> Self {
        let stopped = match how {
            Freeze::Tab => Vec::new(),
            Freeze::Process => page_processes(browser.process()),
        };
        let frozen = Self { tab, how, stopped };
        match how {
            Freeze::Tab => frozen.set_state("frozen"),
            Freeze::Process => assert!(frozen.signal("STOP"), "{:?}", frozen.stopped),
        }
        frozen
    }

    fn set_state(&self, state: &str) {
        let state = json!({ "state": state });
        self.tab.command("Page.setWebLifecycleState", &state);
    }

    /// Whether all of them could be told, and there are any.
    fn signal(&self, name: &str) -> bool {
        let ids = self.stopped.iter().map(ToString::to_string);
        let sent = Command::new("kill").args(["-s", name]).args(ids).status();
        sent.is_ok_and(|status| status.success())
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        match self.how {
            // Its browser can end a frozen tab, but no stopped process.
            Freeze::Tab if std::thread::panicking() => {}
            Freeze::Tab => self.set_state("active"),
            Freeze::Process => {
                self.signal("CONT");
            }
        }
    }
}

/// The processes below one that run pages.
fn page_processes(top: u32) -> Vec<u32> {
    let mut all = vec![top];
    let mut at = 0;
    while let Some(id) = all.get(at) {
        all.extend(children(*id));
        at += 1;
    }
    all.retain(|id| runs_pages(&fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default()));
    all
}

/// The processes that any thread of one started.
fn children(id: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let ids = lists.iter().flat_map(|list| list.split(' '));
    ids.filter_map(|id| id.parse().ok()).collect()
}

/// Chromium says so by a flag, Firefox by its last word.
fn runs_pages(command_line: &[u8]) -> bool {
    let words = String::from_utf8_lossy(command_line);
    let words = words.split(['\0', ' ']).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    words.contains(&"--type=renderer") || words.last() == Some(&"tab")
}
