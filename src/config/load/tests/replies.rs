//! What links in messages may be good for: written right, or refused where it stands.

use super::{refused, taken};
use crate::model::Verdict;

fn config(reply: &str, page: &str) -> String {
    format!(
        "[[agents]]\nid = \"a0000000-0000-4000-8000-000000000001\"\napi_key_env = \"KEY\"\nrules = \"r.toml\"\n\
         [[notify]]\nname = \"ops\"\nkind = \"ntfy\"\nurl_file = \"ops.url\"\n{reply}\n{page}\n"
    )
}

const PAGE: &str = "[page]\nurl = \"https://doorman.example.org\"";

#[test]
fn a_link_rejects_and_holds_and_approves_only_if_that_is_written_out() {
    let may = |reply: &str| taken(&config(reply, PAGE), &[]).notify[0].reply.clone();
    assert_eq!(may(""), []);
    assert_eq!(may("reply = \"none\""), []);
    assert_eq!(may("reply = \"link\""), [Verdict::Reject, Verdict::Defer]);
    assert_eq!(may("reply = \"link\"\nreply_may = [\"approve\"]"), [Verdict::Approve]);
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    for (reply, page, why) in [
        ("reply = \"button\"", PAGE, "expected one of `\"none\"`, `\"link\"`"),
        ("reply = \"link\"", "", "needs the `url` of the page that a link leads to"),
        ("reply_may = [\"hold\"]", PAGE, "belongs beside"),
        ("reply = \"link\"\nreply_may = []", PAGE, "`reply_may` is empty"),
        ("reply = \"link\"\nreply_may = [\"defer\"]", PAGE, "`approve`, `reject` or `hold`"),
        ("reply = \"link\"", "[page]\nurl = \"doorman.example.org\"", "expected an address"),
    ] {
        let said = refused(&config(reply, page), &[]);
        assert!(said.contains(why), "{reply}: no `{why}` in\n{said}");
    }
}
