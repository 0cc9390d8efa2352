//! The accepted counts: a line for each stage and each change of it, with the reason. The last line of a stage is the
//! valid one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::stages::Stage;

/// Instructions a request, by stage.
pub type Counts = Vec<(Stage, u64)>;

/// A count that is this much higher than the accepted one is refused, in per cent; one that is this much lower should
/// be accepted as a new line.
const MORE_MAX: u64 = 10;

/// The accepted count of each stage. A line without a reason is refused.
pub fn accepted(text: &str) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let stage = words.next().and_then(Stage::parse);
        let count = words.next().and_then(|word| word.parse().ok());
        let why = words.next().filter(|why| !why.trim().is_empty());
        let (Some(stage), Some(count), Some(_)) = (stage, count, why) else {
            return Err(format!("`{line}` is not `STAGE INSTRUCTIONS WHY`"));
        };
        counts.retain(|(known, _)| *known != stage);
        counts.push((stage, count));
    }
    match Stage::ALL.iter().find(|stage| !counts.iter().any(|(known, _)| known == *stage)) {
        Some(stage) => Err(format!("nothing is accepted for `{}`", stage.as_str())),
        None => Ok(counts),
    }
}

/// Both counts beside each other, and whether none exceeds its bound.
pub fn compared(counted: &Counts, accepted: &Counts) -> (String, bool) {
    let (mut table, mut within) = ("| stage | accepted | now | |\n| --- | --- | --- | --- |\n".to_owned(), true);
    for (stage, now) in counted {
        let before = accepted.iter().find(|(known, _)| known == stage).map_or(0, |(_, count)| *count);
        let word = match () {
            () if *now * 100 > before * (100 + MORE_MAX) => {
                within = false;
                "refused"
            }
            () if *now * (100 + MORE_MAX) < before * 100 => "less: accept it, so that it stays so",
            () => "",
        };
        let _ = writeln!(table, "| {} | {before} | {now} | {word} |", stage.as_str());
    }
    (table, within)
}

/// Adds a line for each stage that changed.
pub fn accept(file: &Path, counted: &Counts, why: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let known = accepted(&text).unwrap_or_default();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    let why: String = why.split_whitespace().collect::<Vec<_>>().join(" ");
    for (stage, now) in counted {
        // A difference of less than 1 % is noise of the machine.
        let before = known.iter().find(|(known, _)| known == stage).map_or(0, |(_, count)| *count);
        if before.abs_diff(*now) * 100 > before {
            writeln!(file, "{} {now} {why}", stage.as_str())?;
            println!("{}: {before} -> {now}", stage.as_str());
        }
    }
    Ok(())
}
