//! Debian packages, for what the machine lacks.

use std::process::Command;

use crate::error::{Error, Result};
use crate::sh;

/// Installs the packages among these that are missing.
pub(crate) fn install(packages: &[&str], what_for: &str) -> Result {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get update && apt-get install -y {}", missing.join(" "));
    if sh::which("apt-get").is_none() {
        return Err(Error::new(format!(
            "{what_for} needs what Debian packages as {}; this machine has no apt-get, \
             so install it by the system's own means and run this again",
            missing.join(", ")
        )));
    }
    sh::say(format!("installing {} ({what_for})", missing.join(", ")));
    let Some(root) = Root::find()? else {
        return Err(Error::new(format!(
            "{what_for} needs packages that only root may install. Run:\n\n  \
             sudo sh -c '{by_hand}'\n\nand then this command again"
        )));
    };
    let installed = sh::run(root.apt_get(&["install", "-y", "-q"]).args(&missing));
    if installed.is_ok() {
        return Ok(());
    }
    sh::say("trying once more with fresh package lists");
    sh::run(&mut root.apt_get(&["update", "-q"]))?;
    sh::run(root.apt_get(&["install", "-y", "-q"]).args(&missing)).map_err(|error| {
        Error::new(format!(
            "{error}\nMend that by hand (`{by_hand}`) and run this again"
        ))
    })
}

fn installed(package: &str) -> bool {
    let query = ["-W", "-f", "${db:Status-Status}", package];
    sh::output(sh::program("dpkg-query").args(query)).is_ok_and(|status| status == "installed")
}

/// How this process may act as root.
enum Root {
    Itself,
    Sudo,
}

impl Root {
    fn find() -> Result<Option<Self>> {
        if sh::output(sh::program("id").arg("-u"))? == "0" {
            return Ok(Some(Self::Itself));
        }
        let sudo = sh::which("sudo").is_some()
            && sh::output(sh::program("sudo").args(["-n", "true"])).is_ok();
        Ok(sudo.then_some(Self::Sudo))
    }

    fn apt_get(&self, args: &[&str]) -> Command {
        let mut command = match self {
            Self::Itself => sh::program("env"),
            Self::Sudo => {
                let mut sudo = sh::program("sudo");
                sudo.args(["-n", "env"]);
                sudo
            }
        };
        command
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .args(args);
        command
    }
}
