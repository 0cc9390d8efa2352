//! Which texts look like which owners, in cases and in numbers.

use std::collections::BTreeMap;

use super::*;

fn protect(owners: &[&str]) -> Protect {
    Protect::from(owners)
}

fn seen_by(protect: &Protect, handle: &str, name: Option<&str>) -> Option<String> {
    let found = LookAlikes::build(protect).check(&Handle::parse(handle).unwrap(), name)?;
    Some(format!("{}{}", found.owner, if found.by_name { " by name" } else { "" }))
}

fn seen(owners: &[&str], handle: &str, name: Option<&str>) -> Option<String> {
    seen_by(&protect(owners), handle, name)
}

#[test]
fn owners_that_look_like_a_protected_one() {
    for handle in [
        "j0hn",
        "johm",
        "jon",
        "jhon",
        "johnn",
        "xjohn",
        "joh-n",
        "j0hn/bot",
        "jhon/weather-agent",
        "j.o.h.n",
        "j-0-h-n",
    ] {
        assert_eq!(seen(&["john"], handle, None).as_deref(), Some("john"), "{handle}");
    }
    for handle in ["john", "john/weather-agent", "joan1", "jo", "jhno", "nhoj", "mary", "mary/john", "john-smith"] {
        assert_eq!(seen(&["john"], handle, None), None, "{handle}");
    }
}

#[test]
fn names_that_look_like_a_protected_owner() {
    for name in [
        "John",
        "JOHN",
        "  john ",
        "@john",
        "Jоhn",
        "ｊｏｈｎ",
        "joh\u{200b}n",
        "J0hn",
        "Jonh",
        "𝐉𝐨𝐡𝐧",
        "John ✓",
        "J O H N",
        "ᎫОᎻΝ",
        "🅹🅾🅷🅽",
        "jõhñ",
        "ᴊᴏʜɴ",
        "јонn",
        "ⲒⲞⲎⲚ",
        "ᒍOᕼᑎ",
    ] {
        assert_eq!(seen(&["john"], "mallory", Some(name)).as_deref(), Some("john by name"), "{name}");
    }
    for name in ["", "John Smith", "Mary", "名前", "✓", "🎉🎉"] {
        assert_eq!(seen(&["john"], "mallory", Some(name)), None, "{name}");
    }
    assert_eq!(seen(&["john"], "john/bot", Some("John")), None, "their own agent");
    assert_eq!(seen(&["john"], "mallory", Some(&"john".repeat(8_000))), None, "a long one costs little");
}

#[test]
fn short_owners_are_compared_by_skeleton_alone() {
    assert_eq!(seen(&["bob"], "rob", None), None);
    assert_eq!(seen(&["bob"], "b0b", None).as_deref(), Some("bob"));
}

#[test]
fn two_protected_owners_do_not_look_like_each_other() {
    assert_eq!(seen(&["anna", "anne"], "anne/bot", Some("Anna")), None);
    assert_eq!(seen(&["anna", "anne"], "annx", None).as_deref(), Some("anna"), "the first in order");
}

#[test]
fn what_begins_or_ends_with_an_owner_looks_like_it_if_that_is_asked_for() {
    let (begins, ends) = (
        Protect { prefixes: true, ..protect(&["acme", "bob"]) },
        Protect { suffixes: true, ..protect(&["acme", "bob"]) },
    );
    for (handle, name) in
        [("acme-support", None), ("x", Some("ACME Support")), ("acrne-support", None), ("x", Some("Асme Suppоrt"))]
    {
        assert!(seen_by(&begins, handle, name).is_some(), "{handle} {name:?}");
        assert_eq!(seen_by(&ends, handle, name), None, "{handle} {name:?}");
        assert_eq!(seen(&["acme"], handle, name), None, "not asked for");
    }
    assert!(seen_by(&ends, "real-acme", None).is_some() && seen_by(&begins, "real-acme", None).is_none());
    assert_eq!(seen_by(&begins, "bobby", None), None, "short owners are compared as a whole");
    assert_eq!(seen_by(&begins, "acme/support", None), None, "the owner itself");
}

#[test]
fn a_skeleton_in_ascii_is_that_of_its_characters() {
    for text in ["john", "j0hn/m1", "rn", "weather-agent", "\"`|'~", "a b\t", ""] {
        assert_eq!(bones(text), skeleton_twice(text), "{text:?}");
    }
}

#[test]
fn edits_are_found_as_by_comparing_with_all() {
    let owners = ["acme", "john", "abab", "aabb", "kubernetes", "0000"];
    let alikes = LookAlikes::build(&protect(&owners));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3_000 {
        let mut text: Vec<char> = owners[random.usize(..owners.len())].chars().collect();
        for _ in 0..random.usize(..3) {
            let at = random.usize(..=text.len());
            match random.u8(..3) {
                0 => text.insert(at, *random.choice(&['a', 'b', '0', 'c', 'é']).unwrap()),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at + 1 < text.len() => text.swap(at, at + 1),
                _ => {}
            }
        }
        let text: String = text.into_iter().collect();
        let naive = alikes.edited.iter().any(|(edited, _)| within_one_edit(edited, &text));
        assert_eq!(alikes.one_edit_away(&text).is_some(), naive, "{text}");
    }
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('}').unwrap();
        out.push(u32::from_str_radix(code, 16).ok().and_then(char::from_u32).unwrap());
        out.push_str(rest);
    }
    out
}

/// The page that has the rates, with its lines joined.
fn page() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md")).unwrap();
    page.replace('\n', " ")
}

/// The rates in `docs/policy.md` are these; a change that lowers one of them fails.
#[test]
fn imitations_are_noticed() {
    let mut kinds: BTreeMap<&str, (u32, Vec<String>)> = BTreeMap::new();
    for line in include_str!("imitations.txt").lines().filter(|line| !line.starts_with('#')) {
        let [owner, kind, text] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let name = unescaped(text);
        let known = kinds.entry(kind).or_default();
        known.0 += 1;
        if seen(&[owner], "mallory", Some(&name)).is_none() {
            known.1.push(format!("{owner} {text}"));
        }
    }
    let all: u32 = kinds.values().map(|(count, _)| count).sum();
    let missed: usize = kinds.values().map(|(_, missed)| missed.len()).sum();
    assert!(all >= 500, "{all}");
    let shown =
        kinds.iter().map(|(kind, (count, missed))| format!("{kind}: {} of {count} missed {missed:?}\n", missed.len()));
    assert!(missed <= 1, "{missed} of {all} missed\n{}", shown.collect::<String>());
    let page = page();
    for (kind, (count, missed)) in &kinds {
        let row = format!("| {kind} | {count} | {} |", missed.len());
        assert!(page.contains(&row), "docs/policy.md lacks `{row}`");
    }
    let sum = format!("of {all} imitations of ten owners, {missed} is missed");
    assert!(page.contains(&sum), "docs/policy.md lacks `{sum}`");
}

const FIRST: &str = "Anna Maria Jose Juan Wei Li Fatima Mohammed Ahmed Omar Layla Sofia Olga Ivan Dmitri Anastasia Ольга Иван Дмитрий \
    Αλέξανδρος Μαρία Γιώργος Hiroshi Yuki 美咲 太郎 伟 芳 지훈 서연 Raj Priya Arjun अर्जुन प्रिया Nguyen Linh Chioma Kwame Zanele Lars \
    Bjørn Søren Åsa Zoë Chloé François Émile Jürgen Günther Łukasz Zofia Jiří Tomáš Ștefan Ioana Özgür Ayşe José Muñoz João Conceição \
    Siobhán Niamh Aoife Mateo Lucía Giulia Matteo Pietro Liam Emma Olivia Noah Ava Isabella Mason Lucas محمد فاطمة يوسف מרים יוסף";
const LAST: &str = "Smith Johnson Williams Brown Garcia Martinez Müller Schmidt Schneider Fischer Weber Rossi Russo Ferrari Dubois Moreau \
    Laurent Nowak Kowalski Novák Svoboda Horváth Nagy Ivanov Petrov Иванов Петрова Παπαδόπουλος Tanaka Suzuki 佐藤 田中 王 李 김 박 Singh \
    Patel Sharma शर्मा Tran Pham Okafor Mensah Dlamini Hansen Nilsson Öberg Virtanen Yılmaz Demir Silva Santos Oliveira O'Brien \
    McCarthy Al-Farsi الحسن כהן Bernard Lefèvre Peeters Jansen de-Vries van-den-Berg";
const BOTS: &str = "weatherly helper-bot support billing sales-assistant research news-digest calendar travel-planner code-review translator \
    data-pipeline invoices hr-desk northstar kubeflow contosoft acmelabs johannes johnny leonard lena hasanabi bandwidth bandits";

/// 5,000 realistic names and handles that must not look like the protected owners of the table.
#[test]
fn who_looks_like_nobody_passes() {
    let owners =
        ["john", "acme", "weather", "kubernetes", "northwind", "lena-fischer", "contoso", "hasan", "bob", "bandhq"];
    let alikes = LookAlikes::build(&protect(&owners));
    let (first, last): (Vec<&str>, Vec<&str>) = (FIRST.split_whitespace().collect(), LAST.split_whitespace().collect());
    let bots: Vec<&str> = BOTS.split_whitespace().collect();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut asked, mut stopped) = (std::collections::BTreeSet::new(), Vec::new());
    while asked.len() < 5_000 {
        let (one, other, bot) =
            (first[random.usize(..first.len())], last[random.usize(..last.len())], bots[random.usize(..bots.len())]);
        let name = match random.u8(..8) {
            0 => format!("{one} {other}"),
            1 => format!("{other}, {one}"),
            2 => format!("{one} {}. {other}", char::from(random.u8(b'A'..=b'Z'))),
            3 => format!("{one} {other} 🌸"),
            4 => format!("{one}'s {bot}"),
            5 => format!("{bot} of {other}"),
            6 => format!("Dr {one} {other}"),
            _ => format!("{one} {other}-{}", last[random.usize(..last.len())]),
        };
        let plain: String =
            name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let owner = format!("u{}-{}", random.u32(..9_999), plain.trim_matches('-'));
        let owner = &owner[..owner.len().min(60)];
        let handle = match random.bool() {
            true => Handle::parse(owner),
            false => Handle::parse(&format!("{}/{bot}", bots[random.usize(..bots.len())])),
        };
        if let Some(found) = alikes.check(&handle.unwrap(), Some(&name)) {
            stopped.push(format!("{name}: {}", found.owner));
        }
        asked.insert(name);
    }
    assert!(stopped.is_empty(), "{} of {} stopped: {stopped:?}", stopped.len(), asked.len());
    assert!(page().contains("5,000 real-looking names and handles of many languages all pass"));
}
