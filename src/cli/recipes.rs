//! `doorman recipes`: rules for common wishes, from the binary.

use super::{CliError, Global, output, table};

/// By name: what it is for, and the rules.
const RECIPES: [(&str, &str); 14] = [
    ("by-owner", include_str!("../../config/recipes/by-owner.toml")),
    ("close-after-a-week", include_str!("../../config/recipes/close-after-a-week.toml")),
    ("code-and-quota", include_str!("../../config/recipes/code-and-quota.toml")),
    ("exact-list", include_str!("../../config/recipes/exact-list.toml")),
    ("friends-and-their-agents", include_str!("../../config/recipes/friends-and-their-agents.toml")),
    ("holidays", include_str!("../../config/recipes/holidays.toml")),
    ("invite-code", include_str!("../../config/recipes/invite-code.toml")),
    ("known-organisations", include_str!("../../config/recipes/known-organisations.toml")),
    ("office-hours", include_str!("../../config/recipes/office-hours.toml")),
    ("one-chance-a-month", include_str!("../../config/recipes/one-chance-a-month.toml")),
    ("only-these-owners", include_str!("../../config/recipes/only-these-owners.toml")),
    ("public-agent", include_str!("../../config/recipes/public-agent.toml")),
    ("quarantine-and-review", include_str!("../../config/recipes/quarantine-and-review.toml")),
    ("sales-talk", include_str!("../../config/recipes/sales-talk.toml")),
];

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman recipes                              all of them, and what each is for
  doorman recipes office-hours > rules.toml
  doorman test --rules rules.toml              each recipe has its own tests

A recipe is a whole rules file. Its first comment says what to change.")]
pub struct Args {
    /// Print this one
    #[arg(value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(RECIPES.map(|(name, _)| name)))]
    name: Option<String>,
}

/// Runs the command.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    match args.name {
        Some(name) => {
            RECIPES.iter().filter(|(known, _)| *known == name).try_for_each(|(_, text)| output::print(text))?
        }
        None => output::print(&list())?,
    }
    Ok(0)
}

/// The names, and the first sentence of each.
fn list() -> String {
    let purpose = |text: &str| {
        let comment = text.lines().map_while(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(':'));
        let comment = comment.map(str::trim).collect::<Vec<_>>().join(" ");
        comment.split_once(". ").map_or(comment.clone(), |(first, _)| first.to_owned()).trim_end_matches('.').to_owned()
    };
    let rows = RECIPES.iter().map(|(name, text)| vec![(*name).to_owned(), purpose(text)]).collect();
    table::table(&["RECIPE", "WHAT FOR"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_recipe_is_in_the_binary() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/config/recipes");
        let mut shipped: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        shipped.sort();
        assert_eq!(RECIPES.map(|(name, _)| name).to_vec(), shipped);
    }
}
