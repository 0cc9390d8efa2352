//! Every refusal and every warning of the language, as people see it. Each case is a small file; `+` stands for
//! `version = 1` and a sound rest if a case is about one part only.

mod refusals;
mod warnings;

use std::path::Path;

use super::Policy;
use super::compile::compile;
use super::load::{Advice, ListText, LoadedPolicy};

/// A case: what it shows, and the file.
pub(super) type Case = (&'static str, &'static str);

/// List files that cases may name.
fn list(name: &str) -> Result<ListText, Advice> {
    let text = match name {
        "friends.txt" => "# friends\nann\njohn/*\n",
        "empty.txt" => "# nobody yet\n\n",
        "odd.txt" => "ann\n\n@@john   # two\njöhn\nacme/[ab]*\n*\nann\n",
        "twice.txt" => "ann\nbob\n@Ann  # again\n",
        "anybodys.txt" => "ann\n*/support\n",
        "group.txt" => {
            let help = Some("run `chmod g-w group.txt`, unless that group may decide who gets in".to_owned());
            let warning = Some(Advice { message: "`group.txt` may be written by the group 7".to_owned(), help });
            return Ok(ListText { text: "ann\n".to_owned(), warning });
        }
        _ => {
            let help = Some("is it there?".to_owned());
            return Err(Advice { message: format!("`{name}` cannot be read: no such file"), help });
        }
    };
    Ok(ListText { text: text.to_owned(), warning: None })
}

pub(super) fn compiled(text: &str, running: Option<&Policy>) -> LoadedPolicy {
    compile(Path::new("rules.toml"), text, &list, running, &crate::policy::Shrunk::Refuse)
}

/// A sound file around one part.
pub(super) fn whole(part: &str) -> String {
    match part.strip_prefix('+') {
        Some(part) => format!("version = 1\n{part}"),
        None => part.to_owned(),
    }
}

/// Renders all cases, each under its file.
pub(super) fn rendered(cases: &[Case], check: fn(&str, &LoadedPolicy)) -> String {
    let mut out = String::new();
    for (title, part) in cases {
        let text = whole(part);
        let loaded = compiled(&text, None);
        check(title, &loaded);
        out.push_str(&format!("\n#### {title}\n\n{}\n", loaded.report.render(false).trim_end()));
    }
    out
}
