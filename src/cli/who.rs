//! `--as` and `--note`: the name that a person gives, and their note on what they do.

use crate::model::Person;
use crate::ops::control::peer;
use crate::ops::control::wire::Claim;

/// Every command that acts for a person has these.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WhoArgs {
    /// Your name, if your account does not show it; the record says that it is claimed
    #[arg(long = "as", value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Why, for the record: `explain` shows it, and `history` or `status`
    #[arg(long, value_name = "TEXT", value_parser = note)]
    note: Option<String>,
}

impl WhoArgs {
    /// What is sent to the daemon with the question.
    pub fn claim(&self) -> Claim {
        Claim { login: peer::own_login(), name: self.name.clone(), note: self.note.clone() }
    }
}

fn name(text: &str) -> Result<String, String> {
    let claim = Claim { name: Some(text.to_owned()), ..Claim::default() };
    claim.problem().map_or_else(|| Ok(text.to_owned()), Err)
}

fn note(text: &str) -> Result<String, String> {
    if Person::may_be_noted(text) {
        return Ok(text.to_owned());
    }
    Err(format!("a note has 1 to {} characters", Person::NOTE_MAX))
}
