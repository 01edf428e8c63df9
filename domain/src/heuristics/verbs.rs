//! Reads clauses of "I" and a verb: names, homes, origins, work and studies.

use super::dates::When;
use super::objects::{self, object};
use super::{Finding, Reading, Scene, life, names, patterns, person, tastes, work};
use crate::memory::MemoryKind::{self, Event, Fact};

patterns! {
    LIVE_IN = r"(?i)^I (?:live|reside|have been living|am living|have lived) in ";
    LIVE_SOMEHOW = concat!(
        r"(?i)^I live (?:at|on|near|by|with|alone|abroad|close to|next to|off|together|just|",
        r"about|around|outside|above|across)\b",
    );
    MOVED = concat!(
        r"(?i)^I (?:have )?(?:moved|relocated|emigrated|immigrated) (?:back |over |out |down |",
        r"up |here )?(?:from (.+?) )?to (.+?)(?: from ((?-i:[A-Z])[\w ]+))?$",
    );
    BORN = r"(?i)^I (?:was|am) born (in|on|at|and raised in) (.+)$";
    RAISED =
        r"(?i)^I (grew up|was (?:born and )?(?:raised|brought up)) (in|on|near|outside) (.+)$";
    COME_FROM = r"(?i)^I come from (.+)$";
    CALLED = concat!(
        r"(?i)^I (?:prefer to be|like to be|want to be|would like to be|am usually|",
        r"am often) called (.+)$|^I go by (?:the (?:name|nickname) (?:of )?)?(.+)$",
    );
    HOMELY = concat!(
        r"(?i)\b(?:village|town|city|farm|island|suburbs?|countryside|coast|south|north|east|",
        r"west|mountains|family)\b",
    );
    BORN_YEAR = r"^((?:19|20)\d\d)(?:,? in (.+))?$";
    MONTHLIKE = concat!(
        r"(?i)^(?:january|february|march|april|may|june|july|august|september|october|",
        r"november|december|\d)",
    );
}

/// What a clause of "I" and a verb states; `clause` is without its date.
pub(super) fn find(clause: &str, when: Option<&When>, scene: &Scene) -> Vec<Finding> {
    let readings: [Reading; 8] = [
        called,
        home,
        origin,
        work::find,
        work::change,
        tastes::find,
        tastes::wishes,
        life::find,
    ];
    readings
        .iter()
        .find_map(|read| read(clause, when, scene))
        .unwrap_or_default()
}

fn called(clause: &str, _: Option<&When>, _: &Scene) -> Option<Vec<Finding>> {
    let found = CALLED.captures(clause)?;
    let name = names::given(found.get(1).or_else(|| found.get(2))?.as_str())?;
    Some(vec![nickname(&name)])
}

pub(super) fn nickname(name: &str) -> Finding {
    Finding::fact(0.9, format!("User wants to be called {name}")).about("nickname")
}

fn home(clause: &str, when: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = LIVE_IN.find(clause) {
        let place = objects::place(&clause[found.end()..], scene)?;
        let mut lives = vec![lives_in(&place)];
        if let Some(with) = clause
            .find(" with ")
            .filter(|_| !clause.contains("together"))
        {
            let company = object(&clause[with + 6..])?;
            lives.push(Finding::fact(
                0.6,
                format!("User lives with {}", person::third(&company)),
            ));
        }
        return Some(lives);
    }
    if LIVE_SOMEHOW.is_match(clause) {
        return Some(vec![as_said(clause, Fact, 0.6)?]);
    }
    let found = MOVED.captures(clause)?;
    let place = objects::place(&found[2], scene)?;
    if place.name.split(' ').any(|word| {
        ["job", "role", "team", "next", "mac", "linux", "windows"]
            .contains(&word.to_lowercase().as_str())
    }) {
        return None;
    }
    let mut lives = lives_in(&place);
    if let Some(from) = found.get(1).or_else(|| found.get(3)) {
        let from = objects::place(from.as_str(), scene)?;
        lives = lives.ending(format!("User lives in {}", from.name));
    }
    let moved = when.map(|when| {
        Finding::new(
            Event,
            0.6,
            format!("User moved to {}", person::third(&place.name)),
        )
        .on(Some(when))
    });
    Some([lives].into_iter().chain(moved).collect())
}

pub(super) fn lives_in(place: &objects::Place) -> Finding {
    let lives = Finding::fact(0.8, format!("User lives in {}", person::third(&place.name)));
    if place.named {
        lives.about("home")
    } else {
        lives
    }
}

fn origin(clause: &str, _: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = BORN.captures(clause) {
        let what = object(&found[2])?;
        if let Some(found) = BORN_YEAR.captures(&what) {
            let year = Finding::fact(0.8, format!("User was born in {}", &found[1]));
            let place = found
                .get(2)
                .and_then(|place| objects::place(place.as_str(), scene));
            let place = place.map(|place| {
                Finding::fact(0.7, format!("User was born in {}", place.name)).about("birthplace")
            });
            return Some(
                [year.about("birth year")]
                    .into_iter()
                    .chain(place)
                    .collect(),
            );
        }
        if MONTHLIKE.is_match(&what) {
            let mut born = vec![
                Finding::fact(0.9, format!("User was born {} {what}", &found[1]))
                    .about("birth date"),
            ];
            if let Some(day) = super::dates::birthday(&what, scene) {
                let day = day
                    .trim_end_matches(|c: char| c.is_ascii_digit())
                    .trim_end()
                    .to_owned();
                if day.starts_with(|c: char| c.is_ascii_digit()) {
                    born.push(
                        Finding::fact(0.9, format!("User's birthday is {day}")).about("birthday"),
                    );
                }
            }
            return Some(born);
        }
        let place = objects::place(&what, scene)?;
        let preposition = if &found[1] == "and raised in" {
            "and raised in"
        } else {
            "in"
        };
        return Some(vec![
            Finding::fact(0.7, format!("User was born {preposition} {}", place.name))
                .about("birthplace"),
        ]);
    }
    if let Some(found) = RAISED.captures(clause) {
        let place = objects::place(&found[3], scene)?;
        let content = format!(
            "User {} {} {}",
            found[1].to_lowercase(),
            &found[2],
            person::third(&place.name)
        );
        return Some(vec![Finding::fact(0.6, content)]);
    }
    let found = COME_FROM.captures(clause)?;
    Some(vec![comes_from(&found[1], scene)?])
}

pub(super) fn comes_from(text: &str, scene: &Scene) -> Option<Finding> {
    let place =
        objects::place(text, scene).filter(|place| place.named || HOMELY.is_match(&place.name))?;
    let from = Finding::fact(0.7, format!("User is from {}", person::third(&place.name)));
    Some(if place.named {
        from.about("origin")
    } else {
        from
    })
}

/// The clause about the user, as it was said, when what follows its verb stands on its own.
pub(super) fn as_said(clause: &str, kind: MemoryKind, importance: f64) -> Option<Finding> {
    let rest = object(clause.strip_prefix("I ")?)?;
    let after = rest.split_once(' ').map(|(_, after)| after);
    if let Some(after) = after {
        object(after)?;
    }
    let content = person::stated(&format!("I {rest}"))?;
    Some(Finding::new(kind, importance, content))
}
