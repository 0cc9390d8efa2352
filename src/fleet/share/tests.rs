use super::super::core::tests::member;
use super::*;

struct ShareWorld {
    members: Vec<Member>,
    lease_sets: HashMap<String, HashSet<String>>,
    holders: HashMap<String, String>,
    wanted: HashMap<String, String>,
}

impl ShareWorld {
    fn of(members: &[&str], agents: usize) -> Self {
        let names = (0..agents).map(|n| format!("agent-{n}")).chain(["notify".to_owned()]).collect();
        let members = members.iter().map(|id| member(id, 1, MemberState::Up)).collect();
        Self {
            members,
            lease_sets: HashMap::from([("r".to_owned(), names)]),
            holders: HashMap::new(),
            wanted: HashMap::new(),
        }
    }

    fn plan(&self, me: &str, long_free: &[&str], moves_max: usize) -> Plan {
        let seen = FleetView {
            members: &self.members,
            lease_sets: &self.lease_sets,
            holders: &self.holders,
            wanted: &self.wanted,
            uncounted: "notify",
        };
        seen.plan(me, &long_free.iter().map(|name| (*name).to_owned()).collect(), moves_max)
    }

    /// Everybody does what they plan, until nobody does anything; how many leases changed hands.
    fn settle(&mut self) -> usize {
        let mut moved = 0;
        for _ in 0..200 {
            let mut quiet = true;
            for me in self.members.iter().map(|member| member.id.clone()).collect::<Vec<_>>() {
                let plan = self.plan(&me, &[], 5);
                for name in plan.give {
                    assert_eq!(self.holders.remove(&name).as_deref(), Some(me.as_str()));
                    quiet = false;
                }
                for name in plan.take {
                    assert_eq!(self.holders.insert(name, me.clone()), None);
                    (moved, quiet) = (moved + 1, false);
                }
            }
            if quiet {
                return moved;
            }
        }
        panic!("it never settles");
    }

    fn held(&self, me: &str) -> usize {
        self.holders.iter().filter(|(name, holder)| *name != "notify" && *holder == me).count()
    }
}

#[test]
fn everybody_gets_a_share_and_one_gets_the_messages() {
    for (members, agents) in [(1, 1), (1, 9), (2, 6), (3, 10), (3, 1), (10, 500)] {
        let ids: Vec<String> = (0..members).map(|n| format!("m{n}")).collect();
        let mut world = ShareWorld::of(&ids.iter().map(String::as_str).collect::<Vec<_>>(), agents);
        world.settle();
        assert_eq!(world.holders.len(), agents + 1, "{members} {agents}");
        let most = agents.div_ceil(members).max(agents * 11 / 10 / members);
        for id in &ids {
            assert!(world.held(id) <= most, "{members} {agents}: {id} has {}", world.held(id));
        }
        assert_eq!(world.settle(), 0, "and then nothing moves");
    }
}

#[test]
fn one_that_joins_gets_its_share_and_no_other_agent_moves() {
    let ids: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    let mut world = ShareWorld::of(&ids.iter().map(String::as_str).collect::<Vec<_>>(), 1_000);
    world.settle();
    world.members.push(member("new", 1, MemberState::Up));
    let before = world.holders.clone();
    let moved = world.settle();
    let elsewhere = world.holders.iter().filter(|(name, now)| before[*name] != **now).count();
    assert!(moved <= elsewhere + elsewhere / 10, "hardly any agent moves twice: {moved} {elsewhere}");
    assert!((81..=120).contains(&moved) && (81..=100).contains(&world.held("new")), "{moved} {}", world.held("new"));
    let most = ids.iter().map(|id| world.held(id)).max().unwrap();
    assert!(most <= 100, "{most}");
}

#[test]
fn what_a_dead_one_had_is_shared_and_the_rest_stays() {
    let mut world = ShareWorld::of(&["a", "b", "c"], 30);
    world.settle();
    let lost = world.held("c") + usize::from(world.holders["notify"] == "c");
    world.members.pop();
    let before = world.holders.clone();
    world.holders.retain(|_, holder| holder != "c");
    assert_eq!(world.settle(), lost);
    for (name, holder) in before.iter().filter(|(_, holder)| *holder != "c") {
        assert_eq!(world.holders[name], *holder);
    }
}

#[test]
fn a_drained_one_gives_all_and_takes_nothing() {
    let mut world = ShareWorld::of(&["a", "b"], 10);
    world.settle();
    world.members[0].state = MemberState::Draining;
    assert_eq!(world.plan("a", &[], 5).give.len(), world.holders.values().filter(|holder| *holder == "a").count());
    world.settle();
    assert_eq!((world.held("a"), world.held("b")), (0, 10));
    world.members[0].state = MemberState::Up;
    world.settle();
    assert_eq!((world.held("a"), world.held("b")), (5, 5));
}

#[test]
fn weight_and_a_bound_say_how_much() {
    let mut world = ShareWorld::of(&["a", "b"], 90);
    world.members[0].weight = 200;
    world.settle();
    assert!((57..=66).contains(&world.held("a")), "{}", world.held("a"));
    let mut world = ShareWorld::of(&["a", "b"], 90);
    world.members[0].agents_max = 7;
    world.settle();
    assert_eq!((world.held("a"), world.held("b")), (7, 83));
    let mut world = ShareWorld::of(&["a"], 90);
    world.members[0].agents_max = 7;
    world.settle();
    assert_eq!(world.held("a"), 7, "more than this nobody takes");
}

#[test]
fn whom_the_platform_does_not_answer_gives_what_others_may_have_and_takes_nothing_until_it_does() {
    let mut world = ShareWorld::of(&["a", "b"], 10);
    world.settle();
    world.members[0].away = true;
    let given = world.plan("a", &[], 0).give;
    assert_eq!(given.len(), world.holders.values().filter(|holder| *holder == "a").count(), "all, and at once");
    world.settle();
    assert_eq!((world.held("a"), world.held("b"), world.holders["notify"].as_str()), (0, 10, "b"));
    // It takes nothing, though nobody has it for long.
    world.holders.remove("agent-1");
    let mut long_free = world.plan("a", &["agent-1"], 5);
    assert_eq!(std::mem::take(&mut long_free.take), Vec::<String>::new());
    world.settle();
    world.members[0].away = false;
    world.settle();
    assert_eq!((world.held("a"), world.held("b")), (5, 5));
    // Where it is so for all, everything stays, and what is free is taken.
    for member in &mut world.members {
        member.away = true;
    }
    assert_eq!(world.settle(), 0);
    world.holders.retain(|_, holder| holder != "b");
    world.settle();
    assert_eq!(world.held("a") + world.held("b"), 10);
    // What no other names stays, and so does what another has no room for.
    world.members[1].away = false;
    let few: HashSet<String> = ["agent-1", "agent-2", "agent-3"].map(str::to_owned).into();
    world.lease_sets.insert("few".to_owned(), few.clone());
    (world.members[1].lease_set, world.members[1].agents_max) = ("few".to_owned(), 2);
    for holder in world.holders.values_mut() {
        "a".clone_into(holder);
    }
    world.settle();
    assert_eq!((world.held("a"), world.held("b"), world.holders["notify"].as_str()), (8, 2, "a"));
    assert!(world.holders.iter().all(|(name, holder)| holder == "a" || few.contains(name)));
}

#[test]
fn one_is_away_after_a_time_without_answers_while_another_has_the_platform_and_until_it_has_it_again() {
    let mut members = [member("a", 1, MemberState::Up), member("b", 1, MemberState::Up)];
    members[1].reached = 3;
    let (five, long) = (Duration::from_secs(300), Some(Duration::from_secs(300)));
    let away = |was, members: &[Member], held, failing_for| is_away(was, members, "a", held, failing_for, five);
    assert!(away(false, &members, 1, long));
    assert!(!away(false, &members, 1, Some(Duration::from_secs(299))), "not yet");
    assert!(!away(false, &members, 1, None), "it is answered");
    assert!(!away(false, &members, 0, long), "it has nothing to give");
    assert!(away(true, &members, 0, Some(Duration::ZERO)) && !away(true, &members, 0, None), "until it is answered");
    for (reached, state, other_away) in [
        (0, MemberState::Up, false),
        (3, MemberState::Draining, false),
        (3, MemberState::Left, false),
        (3, MemberState::Up, true),
    ] {
        (members[1].reached, members[1].state, members[1].away) = (reached, state, other_away);
        assert!(!away(false, &members, 1, long), "nobody else has the platform: {reached} {state:?} {other_away}");
    }
    members[0].reached = 5;
    assert!(!away(false, &members, 1, long), "its own agents are none of another's");
}

#[test]
fn one_that_may_have_fewer_than_before_gives_the_rest_in_order_and_at_the_usual_pace() {
    let mut world = ShareWorld::of(&["a", "b", "c"], 30);
    world.settle();
    let wanted_here: Vec<String> =
        world.holders.iter().filter(|(_, holder)| *holder == "a").map(|(name, _)| name.clone()).take(2).collect();
    world.wanted = wanted_here.iter().map(|name| (name.clone(), world.members[0].name.clone())).collect();
    world.members[0].agents_max = 2;
    assert_eq!(world.plan("a", &[], 0), Plan::default(), "not before the members have been the same for a while");
    let first = world.plan("a", &[], 5).give;
    assert_eq!((first.len(), world.plan("a", &[], 5).give), (5, first), "some at a time, the same whoever asks");
    world.settle();
    assert_eq!((world.held("a"), world.held("b") + world.held("c")), (2, 28));
    assert!(wanted_here.iter().all(|name| world.holders[name] == "a"), "what a person wants here goes last");
    assert_eq!(world.settle(), 0, "and it stays so");
    world.members[0].agents_max = 0;
    world.settle();
    assert_eq!((world.held("a"), world.held("b") + world.held("c")), (0, 30));
    // Nobody has room for all of them.
    for member in &mut world.members[1..] {
        member.agents_max = 14;
    }
    world.settle();
    assert_eq!((world.held("a"), world.held("b") + world.held("c")), (0, 30), "what nobody may have stays");
    world.members[1].agents_max = 30;
    world.settle();
    assert_eq!((world.held("a"), world.held("b"), world.held("c")), (0, 16, 14));
}

#[test]
fn nobody_gets_what_it_does_not_have_configured() {
    let mut world = ShareWorld::of(&["a", "b"], 10);
    let few: HashSet<String> = ["agent-1", "agent-2"].map(str::to_owned).into();
    world.lease_sets.insert("few".to_owned(), few.clone());
    world.members[1].lease_set = "few".to_owned();
    world.settle();
    assert_eq!((world.held("a") + world.held("b"), world.holders["notify"].as_str()), (10, "a"));
    assert!(world.holders.iter().all(|(name, holder)| holder == "a" || few.contains(name)));
    assert_eq!(world.settle(), 0);
}

#[test]
fn what_its_own_member_does_not_take_another_takes_in_the_end() {
    let world = ShareWorld::of(&["a", "b"], 10);
    let mine = world.plan("a", &[], 5).take;
    let other = (0..10).map(|n| format!("agent-{n}")).find(|name| !mine.contains(name)).unwrap();
    assert!(world.plan("a", &[&other], 5).take.contains(&other));
}

#[test]
fn what_a_person_wants_somewhere_goes_there_and_stays_while_that_doorman_takes_agents() {
    let mut world = ShareWorld::of(&["a", "b"], 10);
    world.settle();
    let moved: Vec<String> = world
        .holders
        .iter()
        .filter(|(name, holder)| *name != "notify" && *holder == "a")
        .map(|(name, _)| name.clone())
        .collect();
    let name = moved[0].clone();
    world.wanted.insert(name.clone(), world.members[1].name.clone());
    assert_eq!(world.plan("a", &[], 0).give, std::slice::from_ref(&name), "at once, though nothing else moves");
    world.settle();
    assert_eq!(world.holders[&name], "b");
    assert_eq!((world.held("a") + world.held("b"), world.settle()), (10, 0));
    // It takes nothing now: others have it, and it goes back later.
    world.members[1].state = MemberState::Draining;
    world.settle();
    assert_eq!(world.holders[&name], "a");
    world.members[1].state = MemberState::Up;
    world.settle();
    assert_eq!(world.holders[&name], "b");
    // Nobody gets what it does not name, nor more than it may have.
    world.wanted.insert("notify".to_owned(), world.members[0].name.clone());
    world.wanted.insert(moved[1].clone(), "nobody".to_owned());
    assert_eq!(world.settle(), 0);
    world.wanted = moved.iter().map(|name| (name.clone(), world.members[1].name.clone())).collect();
    world.settle();
    assert!(moved.iter().all(|name| world.holders[name] == "b"), "{:?}", world.holders);
    assert_eq!((world.held("a"), world.held("b")), (5, 5), "others went the other way");
    world.members[1].agents_max = 1;
    world.holders.retain(|_, holder| holder != "b");
    world.settle();
    assert_eq!((world.held("a"), world.held("b")), (9, 1), "it takes no more than it may");
}
