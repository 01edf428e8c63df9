//! Spanish: the same kinds of facts as in English, in the user's words: "vivo en Sevilla" →
//! "User vive en Sevilla".

use super::calendar::Tense;
use super::dates::When;
use super::grammar::Grammar;
use super::language::Language;
use super::reading::QUOTED;
use super::{Finding, Scene, foreign_dates, patterns, wording};
use crate::memory::MemoryKind::{self, Event, Fact, Preference};

patterns! {
    OPENER = concat!(
        r"(?i)^(?:hola+|buenas(?: tardes| noches)?|buenos días|pues|bueno|oye|mira|sí|no,|vale|por cierto|además|también|",
        r"y|pero|porque|perdón|perdona|corrección|la verdad|en realidad|es que|así que|entonces|ah|eh|jaja\w*|",
        r"ahora|que|por favor|encima|luego)(?:[\s,:!.-]+|$)",
    );
    JOINT = r"(?i)\s*[,;]\s*(?:(?:y|pero|porque|así que)\s+)?|\s+(?:y|e|pero|porque|además|aunque)\s+";
    VERB = concat!(
        r"(?i)^(?:yo )?(?:no |ya no |nunca )?(?:me (?:llamo|gustan?|encantan?|dan?|mudé|casé|apellido|apetece)|soy|estoy|tengo|",
        r"tenemos|vivo|trabajo|odio|adoro|amo|prefiero|detesto|conduzco|toco|juego|bebo|como|fumo|hablo|estudio|padezco|sufro|",
        r"colecciono|corro|leo|escribo|nado|cocino|aprendo|uso|tomo|viajo|vengo|nací|fui|hice|tuve|corrí|compré|aprobé|",
        r"empecé|dejé|perdí|gané|terminé|vuelo|voy|mi \pL+)\b",
    );
    LAST_NAME = r"(?i)^(?:me apellido|mi apellido es) (\pL[\pL'-]*(?: \p{Lu}[\pL'-]+)?)$";
    ARTICLE = r"(?i)^(?:el|la|los|las|un|una|unos|unas|mis?|tus?|sus?|nuestr[oa]s?|est[aeo]s?|es[aeo]s?|aquell?[oa]s?|otr[oa]s?|algún|alguna|ningún|ninguna)\b";
    MATTER = r"(?i)^(?:mis?|tus?|nuestr[oa]s?|est[aeo]s?|es[aeo]s?|ello|algo|un proyecto|una? (?:libro|novela|tesis|proyecto))\b";
    // Whatever the writer's capitals are, these are no names of places and employers.
    NO_PLACE = r"(?i)^(?:casa|remoto|equipo|línea|turnos|negro|pareja|paz|letras|ciencias|verdad|buena|mala|pie)\b";
    HOMELY = r"(?i)\b(?:pueblo|ciudad|aldea|familia|barrio|isla|costa|campo|región|zona)\b";
    NAME = r"(?i)^(?:me llamo|mi nombre es|yo soy|soy) (\pL[\pL'-]*(?: \p{Lu}[\pL'-]+)?)$";
    HOME = r"(?i)^(?:(?:desde|hace) .+? )?(?:yo )?(?:vivo|resido)\b(?:.*?)\b(?:en) ([\pL][\pL .'-]+)$";
    MOVED = r"(?i)^me mudé (?:de .+ )?a ([\pL][\pL .'-]+)$";
    ORIGIN = r"(?i)^(?:soy|vengo) (?:originariamente )?de ([\pL][\pL .'-]+)$";
    WORK_AS = r"(?i)^(?:trabajo|estoy trabajando) (?:como|de) (\pL+(?: \pL+)?)(?: (?:en|para) (.+))?$";
    WORK_AT = r"(?i)^(trabajo|estoy trabajando) (?:para|en) (.+)$";
    AGE = r"(?i)^tengo (\d{1,3}) años$";
    MARITAL = r"(?i)^(?:estoy|soy) (casad[oa]|solter[oa]|divorciad[oa]|viud[oa]|comprometid[oa]|separad[oa])\b";
    DIET = r"(?i)^soy (vegan[oa]|vegetarian[oa]|celíac[oa])$";
    ALLERGY = r"(?i)^(?:soy (?:alérgic[oa]|intolerante) a.+|tengo (?:una )?(?:alergia|intolerancia) .+)$";
    HEALTH = r"(?i)^(?:padezco .+|sufro de .+|tengo (?:diabetes|asma|cáncer|migrañas?|epilepsia|hipertensión|depresión|ansiedad|tdah|artritis|colesterol)\b.*|tomo (?:insulina|medicación|pastillas).*)$";
    LIKING = r"(?i)^(no )?me (gustan?|encantan?|fascinan?|molestan?|apasionan?|dan? miedo|dan? asco|da pánico)(?: mucho| muchísimo)? (.+)$";
    TASTE = r"(?i)^(odio|adoro|amo|prefiero|detesto) (.+)$";
    FAVOURITE = r"(?i)^mi (\pL+) (?:favorit[oa]|preferid[oa]) es (.+)$";
    HAVE = r"(?i)^(?:tengo|tenemos) ((?:un|una|dos|tres|cuatro|cinco|\d{1,2}) .+)$";
    HELD = concat!(
        r"(?i)^(?:un|una|dos|tres|cuatro|cinco|\d{1,2}) (?:\pL+ )?(?:perr[oa]s?|gat[oa]s?|loros?|conejos?|caballos?|hámsters?|peces|pez|",
        r"tortugas?|hij[oa]s?|herman[oa]s?|niet[oa]s?|sobrin[oa]s?|prim[oa]s?|niñ[oa]s?|bebés?|novi[oa]|coche|moto|casa|piso|",
        r"jardín|bici|bicicleta|barco|huerto|mellizos|gemel[oa]s)\b",
    );
    KIN = concat!(
        r"(?i)^mis? ((?:herman[oa]s?|madre|padre|mamá|papá|marido|esposo|esposa|mujer|novi[oa]|pareja|hij[oa]s?|abuel[oa]s?|tí[oa]|",
        r"prim[oa]|sobrin[oa]|suegr[oa]|amig[oa]|perr[oa]|gat[oa]|loro|conejo|caballo|jef[ea])(?: mayor| menor| pequeñ[oa])?) ",
        r"(se llaman?|es|son|vive|viven|trabaja|tiene|está|estudia|toca|odia|adora) (.+)$",
    );
    ACTIVITY = r"(?i)^(conduzco|toco|juego|bebo|como|fumo|hablo|estudio|colecciono|corro|nado|cocino|aprendo|uso|leo|escribo)\b ?(.*)$";
    NO_MORE = r"(?i)^ya no (.+)$";
    DENIED = r"(?i)^(?:no|nunca|jamás) (.+)$";
    TRADE = concat!(
        r"(?i)^soy ((?:profesora?|maestr[oa]|médic[oa]|doctora?|enfermer[oa]|abogad[oa]|ingenier[oa]|arquitect[oa]|camarer[oa]|",
        r"cociner[oa]|chef|programadora?|informátic[oa]|contable|electricista|fontanero|carpinter[oa]|taxista|conductora?|policía|",
        r"bomber[oa]|periodista|dentista|psicólog[oa]|veterinari[oa]|farmacéutic[oa]|pelu[qu]+er[oa]|estudiante|jubilad[oa]|",
        r"artista|músic[oa]|pintora?|escritora?|fotógraf[oa]|agricultora?|autónom[oa]|funcionari[oa]|biólog[oa]|químic[oa]|",
        r"economista|panader[oa]|mecánic[oa]|secretari[oa]|traductora?|piloto)(?: .+)?)$",
    );
    GENERIC_OBJECT = r"(?i)^(?:eso|esto|esta|este|ese|esa|tu|tus|mucho|la idea|el plan|cómo|que|cuando|la respuesta|te)\b";
    NO_NAME = concat!(
        r"(?i)^(?:(?:un|una|el|la|de|muy|yo|así|feliz|nuev[oa]|buen[oa]?|mal[oa]?|capaz|tonto|idiota|consciente|mayor|joven|",
        r"aries|tauro|géminis|virgo|libra|escorpio|sagitario|capricornio|acuario|piscis)\b|alérgic|vegan|vegetarian|profesor)",
    );
    DOING = concat!(
        r"(?i)^(?:me )?(fui|hice|tuve|corrí|compré|aprobé|empecé|dejé|perdí|gané|terminé|viajo|vuelo|voy|tengo|mudé|casé|adopté|",
        r"visité|conocí|estuve|operaron|empiezo|celebro)\b (.+)$",
    );
    SLOT_NAME = r"^User se llama ";
    SLOT_HOME = r"^User vive en \p{Lu}";
    SLOT_ORIGIN = r"^User (?:es|viene) de \p{Lu}";
    SLOT_LAST_NAME = r"^User se apellida ";
    SLOT_EMPLOYER = r"^User trabaja (?:en|para) (?:el |la |los |las )?\p{Lu}";
    SLOT_JOB = r"^User trabaja (?:como|de) ";
    SLOT_AGE = r"^User tiene \d+ años$";
    SLOT_MARITAL = r"^User (?:está|es) (?:casad|solter|divorciad|viud|comprometid|separad)";
    SLOT_DIET = r"^User es (?:vegan|vegetarian)";
}

/// Verbs whose third person is no mere "-o" → "-a".
#[rustfmt::skip]
const THIRD: &[(&str, &str)] = &[
    ("soy", "es"), ("estoy", "está"), ("tengo", "tiene"), ("tenemos", "tiene"), ("vivo", "vive"), ("resido", "reside"),
    ("llamo", "llama"), ("conduzco", "conduce"), ("juego", "juega"), ("bebo", "bebe"), ("como", "come"),
    ("padezco", "padece"), ("sufro", "sufre"), ("corro", "corre"), ("leo", "lee"), ("escribo", "escribe"),
    ("prefiero", "prefiere"), ("aprendo", "aprende"), ("vengo", "viene"), ("voy", "va"), ("fui", "fue"), ("hice", "hizo"),
    ("tuve", "tuvo"), ("estuve", "estuvo"), ("corrí", "corrió"), ("perdí", "perdió"), ("conocí", "conoció"),
    ("vuelo", "vuela"), ("empiezo", "empieza"), ("nací", "nació"), ("toco", "toca"),
];

static GRAMMAR: Grammar = Grammar {
    opener: &OPENER,
    joint: &JOINT,
    head: &VERB,
    slots: &[
        (&SLOT_NAME, "name"),
        (&SLOT_LAST_NAME, "last name"),
        (&SLOT_HOME, "home"),
        (&SLOT_ORIGIN, "origin"),
        (&SLOT_EMPLOYER, "employer"),
        (&SLOT_JOB, "job"),
        (&SLOT_AGE, "age"),
        (&SLOT_MARITAL, "relationship"),
        (&SLOT_DIET, "diet"),
    ],
};

/// What a Spanish message states.
pub(super) fn find(message: &str, scene: &Scene) -> Vec<Finding> {
    GRAMMAR.find(message, |text| stated(text, scene))
}

fn stated(text: &str, scene: &Scene) -> Vec<Finding> {
    GRAMMAR
        .clauses(text)
        .iter()
        .map(|clause| wording::trimmed(GRAMMAR.opened(clause)))
        .filter(|clause| !clause.contains(QUOTED))
        .flat_map(|clause| of_clause(clause, scene))
        .collect()
}

fn of_clause(clause: &str, scene: &Scene) -> Vec<Finding> {
    let past = DOING.captures(clause).is_some_and(|found| {
        !matches!(
            found[1].to_lowercase().as_str(),
            "viajo" | "vuelo" | "voy" | "tengo" | "empiezo" | "celebro"
        )
    });
    let tense = if past { Tense::Past } else { Tense::Future };
    let (dateless, when) = foreign_dates::take(clause, Language::Spanish, tense, scene);
    let dateless = wording::trimmed(GRAMMAR.opened(&dateless)).to_owned();
    if let Some(when) = &when
        && let Some(found) = DOING.captures(&dateless)
    {
        return dated(&dateless, &found, when).into_iter().collect();
    }
    if let Some(found) = NO_MORE.captures(&dateless) {
        return ended(&found[1], "ya no", scene);
    }
    if let Some(found) = DENIED.captures(&dateless)
        && !dateless.to_lowercase().starts_with("no me ")
    {
        return ended(&found[1], "no", scene);
    }
    lasting(&dateless, scene)
}

/// What is not so, or no longer, with what would be or was.
fn ended(positive: &str, not: &str, scene: &Scene) -> Vec<Finding> {
    lasting(positive, scene)
        .into_iter()
        .map(|positive| {
            let content = match positive.content.strip_prefix("A User ") {
                Some(rest) => format!("A User {not} {rest}"),
                None => positive
                    .content
                    .replacen("User ", &format!("User {not} "), 1),
            };
            Finding::new(positive.kind, positive.importance, content).ending(positive.content)
        })
        .collect()
}

fn lasting(clause: &str, scene: &Scene) -> Vec<Finding> {
    if let Some(found) = AGE.captures(clause) {
        return vec![Finding::fact(0.8, format!("User tiene {} años", &found[1])).about("age")];
    }
    if let Some(found) = TRADE.captures(clause) {
        return vec![Finding::fact(0.8, format!("User es {}", &found[1])).about("job")];
    }
    for (pattern, slot) in [(&MARITAL, "relationship"), (&DIET, "diet")] {
        if pattern.is_match(clause) {
            return vec![Finding::fact(0.8, third(clause)).about(slot)];
        }
    }
    if let Some(found) = ORIGIN.captures(clause) {
        let place = proper(&found[1], scene);
        let verb = third_verb(clause.split(' ').next().unwrap_or_default());
        let named =
            wording::is_capitalised(&place) || ARTICLE.is_match(&place) && HOMELY.is_match(&place);
        return named
            .then(|| slotted(0.7, format!("User {verb} de {place}")))
            .into_iter()
            .collect();
    }
    for (pattern, kind, importance) in [(&ALLERGY, Fact, 0.8), (&HEALTH, Fact, 0.8)] {
        if pattern.is_match(clause) {
            return vec![Finding::new(kind, importance, third(clause))];
        }
    }
    if let Some(found) = NAME.captures(clause) {
        let bare = clause.to_lowercase();
        let bare = bare.starts_with("soy ") || bare.starts_with("yo soy ");
        let named = !NO_NAME.is_match(&found[1]) && (!bare || wording::is_capitalised(&found[1]));
        let name = wording::title_case(&found[1]);
        return named
            .then(|| Finding::fact(0.9, format!("User se llama {name}")).about("name"))
            .into_iter()
            .collect();
    }
    if let Some(found) = LAST_NAME.captures(clause) {
        let name = wording::title_case(&found[1]);
        return vec![slotted(0.9, format!("User se apellida {name}"))];
    }
    if let Some(found) = HOME.captures(clause).or_else(|| MOVED.captures(clause)) {
        let place = proper(&found[1], scene);
        return vec![slotted(0.8, format!("User vive en {place}"))];
    }
    if let Some(found) = WORK_AS.captures(clause) {
        let mut work = vec![slotted(0.8, format!("User trabaja como {}", &found[1]))];
        work.extend(
            found
                .get(2)
                .and_then(|at| works_at(at.as_str(), false, scene)),
        );
        return work;
    }
    if let Some(found) = WORK_AT.captures(clause) {
        let at_it_now = !found[1].eq_ignore_ascii_case("trabajo");
        return works_at(&found[2], at_it_now, scene).into_iter().collect();
    }
    if let Some(found) = LIKING.captures(clause) {
        let (what, not) = (&found[3], found.get(1).is_some());
        if GENERIC_OBJECT.is_match(what) || what.split(' ').count() > 8 {
            return Vec::new();
        }
        let liking = |not: &str| format!("A User {not}le {} {what}", found[2].to_lowercase());
        let liked = Finding::new(Preference, 0.6, liking(if not { "no " } else { "" }));
        return vec![if not { liked.ending(liking("")) } else { liked }];
    }
    if let Some(found) = FAVOURITE.captures(clause) {
        let slot = format!("favourite:{}", found[1].to_lowercase());
        let content = format!("El/la {} favorito de User es {}", &found[1], &found[2]);
        return vec![Finding::new(Preference, 0.6, content).about(slot)];
    }
    if let Some(found) = HAVE.captures(clause) {
        return HELD
            .is_match(&found[1])
            .then(|| Finding::fact(0.7, format!("User tiene {}", &found[1])))
            .into_iter()
            .collect();
    }
    if let Some(found) = KIN.captures(clause) {
        let (who, verb, what) = (&found[1], found[2].to_lowercase(), &found[3]);
        let what = if verb.starts_with("se ") {
            wording::title_case(what)
        } else {
            what.to_owned()
        };
        let lasting =
            verb != "está" && !GENERIC_OBJECT.is_match(&what) && what.split(' ').count() <= 8;
        let content = format!("User: su {who} {verb} {what}");
        return lasting
            .then(|| Finding::fact(0.7, content))
            .into_iter()
            .collect();
    }
    for (pattern, kind) in [(&TASTE, Preference), (&ACTIVITY, Preference)] {
        if let Some(found) = pattern.captures(clause) {
            return does(clause, &found[1], &found[2], kind)
                .into_iter()
                .collect();
        }
    }
    Vec::new()
}

/// A fact with the slot that its words fill.
fn slotted(importance: f64, content: String) -> Finding {
    let slot = slot(&content);
    let fact = Finding::fact(importance, content);
    match slot {
        Some(slot) => fact.about(slot),
        None => fact,
    }
}

/// Where somebody works. "Estoy trabajando en mi tesis" tells what at, "trabajo en casa" no employer.
fn works_at(text: &str, at_it_now: bool, scene: &Scene) -> Option<Finding> {
    let at = proper(text, scene);
    let works = slotted(0.8, format!("User trabaja en {at}"));
    let matter = at_it_now || MATTER.is_match(text);
    (works.subject.is_some() || !matter).then_some(works)
}

fn does(clause: &str, verb: &str, what: &str, kind: MemoryKind) -> Option<Finding> {
    // "Como" is "I eat" and "as", "uso" and "juego" are nouns too.
    let alone = what.is_empty() && !verb.eq_ignore_ascii_case("fumo");
    if alone || GENERIC_OBJECT.is_match(what) || what.split(' ').count() > 10 {
        return None;
    }
    let studies = verb.eq_ignore_ascii_case("estudio");
    let owned =
        verb.eq_ignore_ascii_case("conduzco") || studies || verb.eq_ignore_ascii_case("hablo");
    let kind = if owned { Fact } else { kind };
    Some(Finding::new(kind, 0.6, third(clause)))
}

/// A dated event: "ayer fui al dentista".
fn dated(clause: &str, found: &regex::Captures<'_>, when: &When) -> Option<Finding> {
    let what = &found[2];
    if GENERIC_OBJECT.is_match(what) || what.split(' ').count() > 14 {
        return None;
    }
    let reflexive = if clause.to_lowercase().starts_with("me ") {
        "se "
    } else {
        ""
    };
    let content = format!("User {reflexive}{} {}", third_verb(&found[1]), owned(what));
    Some(Finding::new(Event, 0.6, content).on(Some(when)))
}

/// "trabajo en Renfe" about the user.
fn third(clause: &str) -> String {
    let clause = clause.strip_prefix("yo ").unwrap_or(clause);
    let (verb, what) = clause.split_once(' ').unwrap_or((clause, ""));
    format!("User {} {}", third_verb(verb), owned(what))
        .trim_end()
        .to_owned()
}

fn third_verb(verb: &str) -> String {
    let verb = verb.to_lowercase();
    if let Some((_, third)) = THIRD.iter().find(|(first, _)| *first == verb) {
        return (*third).to_owned();
    }
    for (first, third) in [("é", "ó"), ("í", "ió"), ("o", "a")] {
        if let Some(stem) = verb.strip_suffix(first) {
            return format!("{stem}{third}");
        }
    }
    verb
}

fn owned(text: &str) -> String {
    text.split(' ')
        .map(|word| match word.to_lowercase().as_str() {
            "mi" => "su",
            "mis" => "sus",
            "me" | "conmigo" => "le",
            _ => word,
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// A name or place without what trails behind it, with a capital where the writer uses none.
fn proper(text: &str, scene: &Scene) -> String {
    let text = text.split(" desde ").next().unwrap_or(text);
    let text = wording::trimmed(text.split(" con ").next().unwrap_or(text));
    if scene.capitals || ARTICLE.is_match(text) || NO_PLACE.is_match(text) {
        owned(text)
    } else {
        wording::title_case(text)
    }
}

/// The slot of a Spanish statement.
pub(super) fn slot(statement: &str) -> Option<&'static str> {
    GRAMMAR.slot(statement)
}
