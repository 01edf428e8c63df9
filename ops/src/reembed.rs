//! `companion reembed`: vectors of another embedding model beside the live ones, and the switch to them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use companion_adapters::embedder::Embedder;
use companion_adapters::vectors::filling;
use companion_adapters::vectors::models::{self, EmbeddingModel, ModelState};
use serde_json::json;

use crate::operator::{Interrupted, Manner, Operator, Progress};
use crate::output::line;

/// A round that makes no more than so many vectors has caught up with what comes in.
const CAUGHT_UP: u64 = 200;
/// How often to look for what came in, while it follows.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Which model, and what is done with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The model to change to
    #[arg(long, value_name = "NAME", requires = "dimension")]
    model: Option<String>,
    /// The length of its vectors
    #[arg(long, value_name = "N", requires = "model")]
    dimension: Option<usize>,
    /// Where its files lie (model.onnx and those of the tokenizer); EMBEDDING_MODEL_DIR for the configured one
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Go back to the model that was live before
    #[arg(long, conflicts_with_all = ["model", "dimension"])]
    back: bool,
    /// Go on after the switch until Ctrl-C, so that nothing is lacking before a worker has the new model
    #[arg(long)]
    follow: bool,
    /// List the models
    #[arg(long, conflicts_with_all = ["model", "back"])]
    list: bool,
    /// Throw away the vectors of a model that is not live
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "back", "list"])]
    forget: Option<String>,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open_with_any_model("reembed").await?;
    let done = perform(&operator, &options).await;
    operator.close().await;
    done
}

async fn perform(operator: &Operator, options: &Options) -> Result<ExitCode> {
    let models = models::all(&operator.pool).await?;
    if options.list {
        return list(&models, options.manner);
    }
    if let Some(name) = &options.forget {
        return forget(operator, &models, name, options.manner).await;
    }
    let live = models
        .iter()
        .find(|model| model.state() == ModelState::Live)
        .context("the database has no embedding model; run: companion migrate")?;
    let (name, dimension) = match (&options.model, options.dimension) {
        (Some(name), Some(dimension)) => (name.clone(), dimension),
        _ if options.back => {
            let former = models.iter().find(|m| m.state() == ModelState::Former);
            let former = former.context("there is no former model to go back to")?;
            (former.model.clone(), former.dimension())
        }
        _ => bail!("say which model: --model NAME --dimension N, or --back"),
    };
    if name == live.model && dimension == live.dimension() {
        let result = json!({ "model": name, "dimension": dimension, "state": "live", "made": 0 });
        options
            .manner
            .print(&result, || format!("{name} ({dimension}) is live already"))?;
        if options.follow && !options.manner.dry_run {
            let directory = directory(operator, options, &name, dimension)?;
            let embedder = load(operator, &directory, &name, dimension, 1).await?;
            follow(operator, live, &embedder).await?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let directory = directory(operator, options, &name, dimension)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let embedder = load(operator, &directory, &name, dimension, threads).await?;
    let known = models
        .iter()
        .find(|model| model.model == name && model.dimension() == dimension);
    if options.manner.dry_run {
        let left = filling::left(&operator.pool, known).await?;
        let result =
            json!({ "model": name, "dimension": dimension, "dry_run": true, "left": left });
        options.manner.print(&result, || {
            format!("{left} vectors of {name} ({dimension}) would be made; nothing was done")
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let model = models::register(&operator.pool, &name, dimension).await?;
    models::note_probe(&operator.pool, &name, dimension, embedder.probe()).await?;
    change(operator, live, &model, &embedder, options).await
}

/// Where a model's files lie.
fn directory(
    operator: &Operator,
    options: &Options,
    name: &str,
    dimension: usize,
) -> Result<PathBuf> {
    let config = &operator.config;
    if let Some(directory) = &options.model_dir {
        return Ok(directory.clone());
    }
    if name == config.embedding_model && dimension == config.embedding_dimension {
        return Ok(config.embedding_model_dir.clone());
    }
    bail!("say where the files of {name} lie: --model-dir DIR")
}

/// Loads a model, unless vectors of its name were made by another one.
async fn load(
    operator: &Operator,
    directory: &Path,
    name: &str,
    dimension: usize,
    threads: usize,
) -> Result<Embedder> {
    let embedder = Embedder::load_from(directory, dimension, threads).await?;
    if !models::is_recognized(&operator.pool, name, dimension, embedder.probe()).await? {
        bail!(
            "the files in {} make other vectors than those that are kept of {name} ({dimension}); give --model-dir \
             the files that these were made with, or the other model another name",
            directory.display()
        );
    }
    Ok(embedder)
}

/// Fills the model's table, catches up with what comes in meanwhile, and makes it the live one.
async fn change(
    operator: &Operator,
    live: &EmbeddingModel,
    model: &EmbeddingModel,
    embedder: &Embedder,
    options: &Options,
) -> Result<ExitCode> {
    let (pool, stop, begun) = (&operator.pool, &operator.stop, Instant::now());
    let left = filling::left(pool, Some(model)).await?;
    let mut progress = Progress::new("vectors", left.unsigned_abs());
    let mut made = 0;
    loop {
        let advance = |count| progress.advance(count);
        let round = filling::catch_up(pool, model, embedder, stop, advance).await?;
        made += round.made;
        if round.stopped || stop.is_cancelled() {
            return Err(Interrupted::with(format!(
                "{made} vectors were made. They are kept; the same command goes on from there. {} ({}) is live as before.",
                live.model,
                live.dimension()
            )));
        }
        if round.made <= CAUGHT_UP {
            break;
        }
    }
    progress.finish();
    match models::switch(pool, model).await {
        Err(sqlx::Error::RowNotFound) => bail!(
            "the vectors of {} ({}) were thrown away by another command; nothing was switched. Run the command again",
            model.model,
            model.dimension()
        ),
        switched => switched?,
    }
    made += filling::catch_up(pool, model, embedder, stop, |_| {})
        .await?
        .made;
    let seconds = begun.elapsed().as_secs_f64();
    let result = json!({
        "model": model.model, "dimension": model.dimension(), "state": "live", "made": made, "seconds": seconds,
        "former": { "model": live.model, "dimension": live.dimension() },
    });
    options.manner.print(&result, || {
        format!(
            "{} ({}) is live: {made} vectors made in {seconds:.1} s.\n\
             Now restart the processes one after another, a worker first, with\n\
             EMBEDDING_MODEL={}\nEMBEDDING_DIMENSION={}\nand EMBEDDING_MODEL_DIR where its files lie. Those that are not \
             restarted yet go on with {} ({}).\nGo back with: companion reembed --back --model-dir DIR, where the files of that one lie",
            model.model,
            model.dimension(),
            model.model,
            model.dimension(),
            live.model,
            live.dimension()
        )
    })?;
    if options.follow {
        follow(operator, model, embedder).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the vectors of what comes in, until the command is stopped.
async fn follow(operator: &Operator, model: &EmbeddingModel, embedder: &Embedder) -> Result<()> {
    let (pool, stop) = (&operator.pool, &operator.stop);
    while !stop.is_cancelled() {
        filling::catch_up(pool, model, embedder, stop, |_| {}).await?;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
    }
    Ok(())
}

fn list(models: &[EmbeddingModel], manner: Manner) -> Result<ExitCode> {
    if manner.report.json {
        let models: Vec<_> = models
            .iter()
            .map(|model| {
                json!({ "model": model.model, "dimension": model.dimension(), "state": model.state().as_str(),
                        "since": model.since.to_rfc3339() })
            })
            .collect();
        line(serde_json::to_string(&models)?);
        return Ok(ExitCode::SUCCESS);
    }
    for model in models {
        line(format_args!(
            "{:<7}  {} ({})  since {}",
            model.state().as_str(),
            model.model,
            model.dimension(),
            model.since.format("%Y-%m-%d %H:%M")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn forget(
    operator: &Operator,
    models: &[EmbeddingModel],
    name: &str,
    manner: Manner,
) -> Result<ExitCode> {
    let of_name = || models.iter().filter(|model| model.model == name);
    let gone: Vec<&EmbeddingModel> = of_name()
        .filter(|m| m.state() != ModelState::Live)
        .collect();
    if gone.is_empty() {
        bail!("there are no vectors of {name} that are not live; see: companion reembed --list");
    }
    if !manner.dry_run {
        for model in &gone {
            if !models::forget(&operator.pool, model).await? {
                bail!("{name} has become the live model meanwhile; its vectors are kept");
            }
        }
    }
    let result = json!({ "forgotten": name, "models": gone.len(), "dry_run": manner.dry_run });
    manner.print(&result, || match manner.dry_run {
        true => format!("the vectors of {name} would be thrown away"),
        false => format!("the vectors of {name} are thrown away"),
    })?;
    Ok(ExitCode::SUCCESS)
}
