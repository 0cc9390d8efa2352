//! `doorman recipes`: rules for common situations, from the binary.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{CliError, Global, output, table};

/// By name: what it is for, and the rules.
const RECIPES: [(&str, &str); 18] = [
    ("ask-a-decider", include_str!("../../config/recipes/ask-a-decider.toml")),
    ("by-owner", include_str!("../../config/recipes/by-owner.toml")),
    ("close-after-a-week", include_str!("../../config/recipes/close-after-a-week.toml")),
    ("code-and-quota", include_str!("../../config/recipes/code-and-quota.toml")),
    ("exact-list", include_str!("../../config/recipes/exact-list.toml")),
    ("friends-and-their-agents", include_str!("../../config/recipes/friends-and-their-agents.toml")),
    ("guests", include_str!("../../config/recipes/guests.toml")),
    ("holidays", include_str!("../../config/recipes/holidays.toml")),
    ("invite-code", include_str!("../../config/recipes/invite-code.toml")),
    ("known-organisations", include_str!("../../config/recipes/known-organisations.toml")),
    ("office-hours", include_str!("../../config/recipes/office-hours.toml")),
    ("one-chance-a-month", include_str!("../../config/recipes/one-chance-a-month.toml")),
    ("only-these-owners", include_str!("../../config/recipes/only-these-owners.toml")),
    ("public-agent", include_str!("../../config/recipes/public-agent.toml")),
    ("quarantine-and-review", include_str!("../../config/recipes/quarantine-and-review.toml")),
    ("sales-talk", include_str!("../../config/recipes/sales-talk.toml")),
    ("several-agents", include_str!("../../config/recipes/several-agents.toml")),
    ("shared-blocklist", include_str!("../../config/recipes/shared-blocklist.toml")),
];

/// Other files that a recipe needs: the recipe, the path, and the text.
const BESIDE: [(&str, &str, &str); 4] = [
    ("holidays", "holidays.txt", include_str!("../../config/recipes/holidays.txt")),
    ("sales-talk", "sales-words.txt", include_str!("../../config/recipes/sales-words.txt")),
    ("shared-blocklist", "shared/common.toml", include_str!("../../config/recipes/shared/common.toml")),
    ("shared-blocklist", "shared/blocked.txt", include_str!("../../config/recipes/shared/blocked.txt")),
];

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman recipes                              all of them, and what each is for
  doorman recipes office-hours                 prints it
  doorman recipes office-hours --to porter     writes porter/rules.toml
  doorman test --rules porter/rules.toml       each recipe has its own tests

A recipe is a whole rules file. Its first comment says what to change. Some
need files beside them, which --to writes, too. It replaces no file.")]
pub struct Args {
    /// Print this one
    #[arg(value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(RECIPES.map(|(name, _)| name)))]
    name: Option<String>,
    /// Write it into this directory, as `rules.toml` with all that it needs
    #[arg(long, value_name = "DIR", requires = "name")]
    to: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// 1 if a file is there already, or cannot be written.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    let Some((name, text)) = args.name.and_then(|name| RECIPES.iter().find(|(known, _)| *known == name)) else {
        output::print(&list())?;
        return Ok(0);
    };
    let beside: Vec<_> =
        BESIDE.iter().filter(|(whose, ..)| whose == name).map(|(_, path, text)| (*path, *text)).collect();
    match args.to {
        None => {
            output::print(text)?;
            if !beside.is_empty() {
                let files: Vec<_> = beside.iter().map(|(path, _)| format!("`{path}`")).collect();
                let _ = writeln!(
                    anstream::stderr(),
                    "this recipe needs {} beside it: `doorman recipes {name} --to DIR` writes all",
                    files.join(" and ")
                );
            }
        }
        Some(to) => {
            let files: Vec<_> = std::iter::once(("rules.toml", *text)).chain(beside).collect();
            if let Some(there) = files.iter().map(|(path, _)| to.join(path)).find(|path| path.exists()) {
                return Err(CliError::new(1, format!("`{}` is there already: nothing was written", there.display())));
            }
            for (path, text) in files {
                let path = to.join(path);
                write(&path, text)
                    .map_err(|error| CliError::new(1, format!("`{}` cannot be written: {error}", path.display())))?;
                output::print(&format!("wrote {}\n", output::shown(&path.display().to_string())))?;
            }
        }
    }
    Ok(0)
}

/// Writes a new file; makes its directory if that does not exist.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = std::fs::File::create_new(path)?;
    // The written file does not have the schema at this path.
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("#:schema"));
    lines.map(str::as_bytes).try_for_each(|line| file.write_all(line))
}

/// The names, and the first sentence of each.
fn list() -> String {
    let purpose = |text: &str| {
        let comment = text.lines().map_while(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(':'));
        let comment = comment.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        comment.split_once(". ").map_or(comment.clone(), |(first, _)| first.to_owned()).trim_end_matches('.').to_owned()
    };
    let rows = RECIPES.iter().map(|(name, text)| vec![(*name).to_owned(), purpose(text)]).collect();
    table::table(&["RECIPE", "WHAT FOR"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipe_is_written_with_all_that_it_needs_and_replaces_nothing() {
        for (name, _) in RECIPES {
            let directory = tempfile::tempdir().unwrap();
            let to = directory.path().join("new");
            let args = || Args { name: Some(name.to_owned()), to: Some(to.clone()) };
            run(args(), &Global { config: None }).unwrap();
            let loaded = crate::policy::load_named(&to.join("rules.toml"));
            assert_eq!(loaded.report.render(false), "", "{name}");
            assert!(!loaded.tests.is_empty() && loaded.tests.iter().all(|test| test.passed), "{name}");
            std::fs::write(to.join("rules.toml"), "mine").unwrap();
            assert_eq!(run(args(), &Global { config: None }).unwrap_err().code, 1);
            assert_eq!(std::fs::read_to_string(to.join("rules.toml")).unwrap(), "mine");
        }
    }

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
