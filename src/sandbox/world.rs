//! Who exists in a sandbox: agents and users with their keys. This module turns a world file into a checked [`World`],
//! and reports all its problems at once with their positions. It does not know requests or connections.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::diagnostics::{Report, Severity};
use crate::model::{AgentId, Handle};

/// Most agents and users together in one world.
pub(crate) const PARTIES_MAX: usize = 20_000;
/// Most bytes of a world file.
pub(crate) const WORLD_BYTES_MAX: usize = 16 << 20;
const KEY_BYTES_MAX: usize = 512;
const NAME_CHARS_MAX: usize = 200;
const FIELDS: [&str; 5] = ["id", "key", "handle", "name", "description"];

/// An agent or a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartyKind {
    /// A person.
    User,
    /// An agent.
    Agent,
}

impl PartyKind {
    /// `User` or `Agent`, as the platform writes a contact's type \[seed\].
    pub fn as_str(self) -> &'static str {
        match self {
            PartyKind::User => "User",
            PartyKind::Agent => "Agent",
        }
    }
}

/// Somebody with an id, a key and a handle.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    /// What they are.
    pub kind: PartyKind,
    /// Distinct in a world.
    pub id: String,
    /// Distinct in a world; never shown by `Debug`.
    pub key: String,
    /// `owner` for a user, `owner/slug` for an agent; distinct in a world.
    pub handle: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("handle", &self.handle)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Who exists. Built in code, a world is checked when a sandbox starts with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    parties: Vec<Party>,
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an agent.
    #[must_use]
    pub fn agent(self, id: &str, key: &str, handle: &str, name: &str) -> Self {
        self.party(PartyKind::Agent, id, key, handle, name)
    }

    /// Adds a user.
    #[must_use]
    pub fn user(self, id: &str, key: &str, handle: &str, name: &str) -> Self {
        self.party(PartyKind::User, id, key, handle, name)
    }

    fn party(mut self, kind: PartyKind, id: &str, key: &str, handle: &str, name: &str) -> Self {
        let [id, key, handle, name] = [id, key, handle, name].map(str::to_owned);
        self.parties.push(Party { kind, id, key, handle, name, description: None });
        self
    }

    /// Everybody, in the order of the file.
    pub fn parties(&self) -> &[Party] {
        &self.parties
    }

    /// Reads a world file.
    ///
    /// # Errors
    ///
    /// All problems of the file, each with its place; `name` is the path they show.
    pub fn parse(text: &str, name: &str) -> Result<World, Report> {
        let mut reader =
            WorldReader { report: Report::default(), source: 0, world: World::new(), seen: TakenNames::default() };
        if text.len() > WORLD_BYTES_MAX {
            reader.source = reader.report.add_source(name, "");
            reader.error(None, format!("a world file has at most {WORLD_BYTES_MAX} bytes"));
            return Err(reader.report);
        }
        reader.source = reader.report.add_source(name, text);
        match DeTable::parse(text) {
            Ok(table) => reader.file(table.get_ref()),
            Err(error) => reader.error(error.span(), error.message().trim().replace('\n', ", ")),
        }
        if reader.report.has_errors() {
            reader.report.problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
            return Err(reader.report);
        }
        Ok(reader.world)
    }

    /// The first problem of a world that was built in code.
    ///
    /// # Errors
    ///
    /// A sentence for people.
    pub fn check(&self) -> Result<(), String> {
        if self.parties.len() > PARTIES_MAX {
            return Err(format!("a world has at most {PARTIES_MAX} agents and users"));
        }
        let mut seen = TakenNames::default();
        for party in &self.parties {
            for (field, value) in
                [("id", &party.id), ("key", &party.key), ("handle", &party.handle), ("name", &party.name)]
            {
                check_field(party.kind, field, value)
                    .and_then(|()| seen.add(field, value))
                    .map_err(|problem| format!("`{}`: {problem}", party.handle.escape_debug()))?;
            }
        }
        Ok(())
    }
}

/// The values so far that must be distinct in a world.
#[derive(Default)]
struct TakenNames(HashMap<(&'static str, String), ()>);

impl TakenNames {
    fn add(&mut self, field: &'static str, value: &str) -> Result<(), String> {
        if field == "name" || self.0.insert((field, value.to_owned()), ()).is_none() {
            return Ok(());
        }
        Err(match field {
            "key" => "this key is somebody else's already".to_owned(),
            _ => format!("the {field} `{}` is somebody else's already", value.escape_debug()),
        })
    }
}

fn check_field(kind: PartyKind, field: &str, value: &str) -> Result<(), String> {
    match field {
        "id" => {
            AgentId::parse(value).map_err(|problem| problem.to_string())?;
            if value.contains([':', '/', '?', '#', '"', '\\']) {
                return Err("an id has none of `:`, `/`, `?`, `#`, `\"` and `\\`".into());
            }
        }
        "key" => {
            if value.is_empty() || value.len() > KEY_BYTES_MAX || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("a key is visible ASCII without spaces, at most {KEY_BYTES_MAX} bytes"));
            }
        }
        "handle" => {
            let handle = Handle::parse(value).map_err(|problem| problem.to_string())?;
            if handle.as_str() != value {
                return Err(format!("write the handle as `{handle}`"));
            }
            if handle.slug().is_some() != (kind == PartyKind::Agent) {
                return Err(match kind {
                    PartyKind::Agent => "an agent's handle is `owner/slug`".into(),
                    PartyKind::User => "a user's handle has no `/`".into(),
                });
            }
        }
        _ => {
            if value.is_empty() || value.chars().count() > NAME_CHARS_MAX {
                return Err(format!("a {field} has 1 to {NAME_CHARS_MAX} characters"));
            }
        }
    }
    Ok(())
}

struct WorldReader {
    report: Report,
    source: usize,
    world: World,
    seen: TakenNames,
}

impl WorldReader {
    fn error(&mut self, span: Option<Range<usize>>, message: String) {
        self.report.push(Severity::Error, Some(self.source), span, message);
    }

    fn file(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let kind = match key.get_ref().as_ref() {
                "agents" => PartyKind::Agent,
                "users" => PartyKind::User,
                other => {
                    let message = format!("unknown key `{}`", other.escape_debug());
                    let problem = self.report.push(Severity::Error, Some(self.source), Some(key.span()), message);
                    problem.help("a world has `[[agents]]` and `[[users]]`");
                    continue;
                }
            };
            let DeValue::Array(rows) = value.get_ref() else {
                self.error(Some(value.span()), format!("write `[[{}]]`, once for each", key.get_ref()));
                continue;
            };
            for row in rows {
                if self.world.parties.len() == PARTIES_MAX {
                    self.error(Some(row.span()), format!("a world has at most {PARTIES_MAX} agents and users"));
                    return;
                }
                match row.get_ref() {
                    DeValue::Table(table) => self.row(kind, table, row.span()),
                    _ => self.error(Some(row.span()), "this must be a table".into()),
                }
            }
        }
    }

    fn row(&mut self, kind: PartyKind, table: &DeTable<'_>, span: Range<usize>) {
        let mut values: HashMap<&'static str, String> = HashMap::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let allowed = if kind == PartyKind::Agent { &FIELDS[..] } else { &FIELDS[..4] };
            let Some(field) = allowed.iter().find(|field| **field == name) else {
                let nearest = allowed.iter().min_by_key(|field| strsim::damerau_levenshtein(field, name));
                let message = format!("unknown key `{}`", name.escape_debug());
                let problem = self.report.push(Severity::Error, Some(self.source), Some(key.span()), message);
                match nearest.filter(|near| strsim::damerau_levenshtein(near, name) <= 2) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help(format!("allowed are {}", allowed.join(", "))),
                };
                continue;
            };
            let DeValue::String(text) = value.get_ref() else {
                self.error(Some(value.span()), format!("`{field}` must be a string"));
                continue;
            };
            let checked = check_field(kind, field, text).and_then(|()| match *field {
                "description" => Ok(()),
                field => self.seen.add(field, text),
            });
            if let Err(problem) = checked {
                self.error(Some(value.span()), problem);
            }
            values.insert(field, text.to_string());
        }
        let missing: Vec<&str> = FIELDS[..4].iter().filter(|field| !table.contains_key(**field)).copied().collect();
        if !missing.is_empty() {
            let what = if kind == PartyKind::Agent { "agent" } else { "user" };
            self.error(Some(span), format!("this {what} lacks `{}`", missing.join("`, `")));
            return;
        }
        let mut take = |field| values.remove(field).unwrap_or_default();
        let (id, key, handle, name) = (take("id"), take("key"), take("handle"), take("name"));
        let description = values.remove("description");
        self.world.parties.push(Party { kind, id, key, handle, name, description });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_world_is_good() {
        let world = World::parse(include_str!("../../config/world.toml"), "world.toml").unwrap();
        assert_eq!(world.parties().len(), 4);
        assert_eq!(world.check(), Ok(()));
    }

    #[test]
    fn all_problems_of_a_world_come_at_once_and_in_order() {
        let text = "[[agents]]\nid = \"a b\"\nkey = 3\nhandel = \"x\"\nname = \"\"\n\n[[users]]\nid = \"u\"\nkey = \"k\"\n\
                    handle = \"a/b\"\nname = \"U\"\n\n[[users]]\nid = \"u\"\nkey = \"k\"\nhandle = \"@U\"\nname = \"V\"\n\n\
                    [rooms]\n";
        let report = World::parse(text, "w.toml").unwrap_err();
        let said: Vec<String> = report
            .problems
            .iter()
            .map(|problem| format!("{}: {}", &text[problem.span.clone().unwrap()], problem.message))
            .collect();
        assert_eq!(
            said,
            [
                "[[agents]]: this agent lacks `handle`",
                "\"a b\": an id is visible ASCII without spaces",
                "3: `key` must be a string",
                "handel: unknown key `handel`",
                "\"\": a name has 1 to 200 characters",
                "\"a/b\": a user's handle has no `/`",
                "\"u\": the id `u` is somebody else's already",
                "\"k\": this key is somebody else's already",
                "\"@U\": write the handle as `u`",
                "rooms: unknown key `rooms`",
            ]
        );
        assert_eq!(report.problems[3].help.as_deref(), Some("did you mean `handle`?"));
    }

    #[test]
    fn a_broken_world_in_code_is_reported_and_keys_are_not_shown() {
        let world = World::new().agent("a", "secret", "john/a", "A").user("u", "secret", "john", "J");
        let problem = world.check().unwrap_err();
        assert!(problem.contains("key is somebody else's"), "{problem}");
        assert!(!format!("{world:?}{problem}").contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_world_or_problems(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "[[agents]]\n", "[[users]]\n", "[agents]\n", "id = \"a\"\n", "key = ", "\"é\"\n", "name=[]\n", "handle = \"a/b\"\n",
                    "agents = 1\n", "\u{0}", "\"\"\"", "{", "}", "#", "=", ".", "users.", "\n",
                ]),
                0..20,
            ),
        ) {
            let text = parts.concat();
            if let Err(report) = World::parse(&text, "w") {
                proptest::prop_assert!(report.has_errors());
                for problem in &report.problems {
                    if let Some(span) = &problem.span {
                        proptest::prop_assert!(text.get(span.clone()).is_some(), "{:?} of {:?}", span, text);
                    }
                }
            }
        }
    }
}
