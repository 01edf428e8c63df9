//! `companion bench extract`: runs the labelled messages of `ops/bench-data` through an arm of
//! extraction and through consolidation, and prints precision and recall.

mod arm;
mod label;
mod score;
mod script;
mod world;

use clap::{Args, ValueEnum};

use self::arm::Arm;
use self::label::{Item, Part};
use self::score::Tally;
use crate::output;

#[derive(Args)]
pub(crate) struct Options {
    /// Who finds the statements
    #[arg(long, value_enum, default_value = "heuristic")]
    arm: ArmName,
    /// The OpenAI-compatible server of the arm `llm`, as LM_STUDIO_BASE_URL has it
    #[arg(long, required_if_eq("arm", "llm"))]
    endpoint: Option<String>,
    /// The model of the arm `llm`
    #[arg(long, required_if_eq("arm", "llm"))]
    model: Option<String>,
    /// Which part of the set: what the patterns were tuned on, what was held out, or both apart
    #[arg(long, value_enum, default_value = "all")]
    part: PartName,
    /// Show each label that was missed and each statement that is wrong, on standard error
    #[arg(long)]
    failures: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ArmName {
    /// The patterns
    Heuristic,
    /// Answers of an LLM, made of the labels, clean, broken, invented and echoed
    Scripted,
    /// An LLM
    Llm,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartName {
    Tuned,
    HeldOut,
    All,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let arm = match options.arm {
        ArmName::Heuristic => Arm::Patterns,
        ArmName::Scripted => Arm::Scripted,
        ArmName::Llm => Arm::llm(
            options.endpoint.unwrap_or_default(),
            options.model.unwrap_or_default(),
        )?,
    };
    let parts = match options.part {
        PartName::Tuned => vec![Part::Tuned],
        PartName::HeldOut => vec![Part::HeldOut],
        PartName::All => vec![Part::Tuned, Part::HeldOut],
    };
    let mut figures = serde_json::Map::new();
    for part in parts {
        let mut tally = Tally::default();
        for (number, item) in label::items(part)?.iter().enumerate() {
            let memories = arm.run(number, item).await?;
            let scored = score::score(item, &memories);
            if options.failures {
                show(item, &scored);
            }
            tally.add(item, &scored);
        }
        if options.json {
            figures.insert(part.name().to_owned(), tally.json());
        } else {
            output::line(format_args!("{}\n\n{}", part.title(), tally.table()));
        }
    }
    if options.json {
        output::line(format_args!("{}", serde_json::Value::Object(figures)));
    }
    Ok(())
}

fn show(item: &Item, scored: &score::Scored) {
    if scored.missed.is_empty() && scored.wrong.is_empty() {
        return;
    }
    output::note(format_args!("{} {} {:?}", item.id, item.class, item.say));
    for label in &scored.missed {
        output::note(format_args!("    missed: {label}"));
    }
    for statement in &scored.wrong {
        output::note(format_args!("    wrong:  {statement}"));
    }
}
