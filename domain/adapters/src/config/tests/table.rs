//! The table of settings is what the parser goes by and what the documentation shows.

use std::path::PathBuf;

use super::*;
use crate::config::settings::{ALL, Reader, Setting, Unset};

fn read_by_config() -> impl Iterator<Item = &'static Setting> {
    ALL.iter()
        .filter(|setting| setting.reader == Reader::Config)
}

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

#[test]
fn the_parser_asks_for_every_setting_of_the_table_and_no_other() {
    let v = Variables::new(HashMap::new());
    Config::parse(&v).expect("defaults");
    let asked: Vec<&str> = v.asked.borrow().iter().copied().collect();
    let mut listed: Vec<&str> = read_by_config().map(|setting| setting.name).collect();
    listed.sort_unstable();
    assert_eq!(asked, listed);
}

#[test]
fn no_setting_is_listed_twice_or_breaks_its_table() {
    let mut names: Vec<&str> = ALL.iter().map(|setting| setting.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for setting in ALL {
        let text = format!("{setting:?}");
        assert!(!text.contains(['|', '\n']), "{text}");
        assert!(setting.meaning.ends_with('.'), "{text}");
    }
}

#[test]
fn every_example_is_accepted() {
    for setting in read_by_config() {
        // The one example that needs a file.
        if setting.name != "JWT_PUBLIC_KEY" {
            with(&[(setting.name, setting.example)]).expect(setting.name);
        }
    }
}

#[test]
fn the_bounds_that_are_told_are_those_that_hold() {
    let mut seen = 0;
    for setting in read_by_config() {
        let Some((from, to)) = setting
            .expected
            .split_once(" from ")
            .and_then(|(_, bounds)| bounds.split_once(" to "))
        else {
            continue;
        };
        seen += 1;
        let given = |value: &str| with(&[(setting.name, value)]);
        for inside in [from, to] {
            given(inside).unwrap_or_else(|error| panic!("{inside}: {error}"));
        }
        let (below, above) = (
            from.parse::<i64>().expect("a number") - 1,
            to.parse::<i64>().expect("a number") + 1,
        );
        for outside in [below, above] {
            let error = given(&outside.to_string()).expect_err(setting.name);
            assert!(error.to_string().contains(setting.expected), "{error}");
        }
    }
    assert!(seen >= 15, "only {seen} have bounds");
}

#[test]
fn the_choices_that_are_told_are_those_that_hold() {
    for setting in read_by_config() {
        let Some(choices) = setting.expected.strip_prefix("one of ") else {
            continue;
        };
        for choice in choices.split(", ") {
            match with(&[(setting.name, choice)]) {
                // It is understood, but needs more than itself.
                Err(ConfigError::Weak(_)) => assert_eq!(choice, "production"),
                Err(ConfigError::Invalid(other)) => assert_eq!(other.variable, "JWT_PUBLIC_KEY"),
                other => drop(other.expect(choice)),
            }
        }
        with(&[(setting.name, "none of them")]).expect_err(setting.name);
    }
}

#[test]
fn the_half_lives_are_those_of_the_domain_unless_set() {
    assert_eq!(with(&[]).expect("defaults").decay, Default::default());
}

#[test]
fn the_page_of_settings_is_made_from_the_table() {
    let path = file("ops/docs/CONFIGURATION.md");
    let made = settings::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "ops/docs/CONFIGURATION.md is not what the table gives; make it anew with: \
         UPDATE_DOCS=1 cargo test -p companion-adapters --lib the_page_of_settings"
    );
}

#[test]
fn the_example_file_shows_every_setting_with_its_default_or_its_example() {
    let text = std::fs::read_to_string(file(".env.example")).expect("readable");
    let mut shown = Vec::new();
    for line in text.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if !name.bytes().all(|c| c.is_ascii_uppercase() || c == b'_') {
            continue;
        }
        let setting = ALL.iter().find(|setting| setting.name == name);
        let setting = setting.unwrap_or_else(|| panic!("{name} is no setting"));
        let value = value.trim_matches('"');
        let is_default = matches!(setting.unset, Unset::Is(default) if default == value);
        // A secret is left for the operator to fill in.
        assert!(
            value.is_empty() || value == setting.example || is_default,
            "{line}"
        );
        shown.push(name);
    }
    for setting in ALL {
        assert!(
            shown.contains(&setting.name),
            "{} is not shown",
            setting.name
        );
    }
    assert_eq!(shown.len(), ALL.len(), "one is shown twice");
}
