//! Word lists: families, pets, jobs, belongings, languages and the like; all in lower case.

/// Whether a list holds a word, in whatever case it is written.
pub(super) fn has(list: &[&str], word: &str) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(word))
}

/// Adverbs that stay in a statement, because they change it.
#[rustfmt::skip]
pub(super) const ADVERBS: &[&str] = &[
    "always", "usually", "often", "never", "sometimes", "rarely", "mostly", "only", "mainly",
    "typically", "normally", "generally", "hardly", "seldom", "occasionally", "regularly",
    "almost",
];

/// Verbs without an ending in the third person.
#[rustfmt::skip]
pub(super) const MODALS: &[&str] = &[
    "will", "would", "can", "could", "should", "may", "might", "must", "shall", "did", "had",
    "used", "got",
];

/// Verbs that contract with "not".
#[rustfmt::skip]
pub(super) const HELPERS: &[&str] = &[
    "do", "does", "did", "is", "are", "was", "were", "has", "have", "had", "would", "could",
    "should", "can", "will",
];

/// Verbs in the present that end in "ed".
#[rustfmt::skip]
pub(super) const NOT_PAST: &[&str] = &[
    "need", "speed", "breed", "bleed", "exceed", "succeed", "proceed", "embed", "indeed",
];

/// Past tenses that don't end in "ed".
#[rustfmt::skip]
pub(super) const IRREGULAR_PAST: &[&str] = &[
    "was", "were", "had", "did", "went", "got", "bought", "ran", "won", "lost", "met", "made",
    "took", "gave", "came", "saw", "began", "broke", "built", "caught", "chose", "drank", "drove",
    "ate", "fell", "flew", "found", "forgot", "grew", "heard", "held", "kept", "knew", "left",
    "lent", "lit", "paid", "quit", "rode", "rang", "rose", "sold", "sent", "sang", "sat", "slept",
    "spoke", "spent", "stood", "stole", "swam", "taught", "told", "thought", "threw",
    "understood", "woke", "wore", "wrote", "became", "sprained", "hurt", "cut", "brought", "felt",
    "said", "drew", "hid", "hung", "shot", "shook", "slid", "stuck", "struck", "swore", "tore",
    "wound", "wed", "bit", "bred", "dealt", "dug", "fought", "fed", "froze", "hit", "lay", "led",
    "meant", "overslept", "proved", "put", "sewed", "sought", "shrank", "spun", "sprang",
    "strove", "swept", "withdrew", "passed", "redid", "undertook", "upgraded",
];

/// Animals that people keep.
#[rustfmt::skip]
pub(super) const PETS: &[&str] = &[
    "dog", "dogs", "cat", "cats", "puppy", "puppies", "kitten", "kittens", "parrot", "parrots",
    "parakeet", "budgie", "canary", "bird", "birds", "hamster", "hamsters", "rabbit", "rabbits",
    "bunny", "bunnies", "turtle", "turtles", "tortoise", "fish", "goldfish", "horse", "horses",
    "pony", "snake", "snakes", "python", "lizard", "gecko", "ferret", "ferrets", "hen", "hens",
    "chicken", "chickens", "goat", "goats", "sheep", "cow", "cows", "donkey", "hedgehog",
    "chinchilla", "rat", "rats", "mouse", "gerbil", "corgi", "labrador", "lab", "poodle",
    "beagle", "husky", "dachshund", "retriever", "bulldog", "terrier", "shepherd", "collie",
    "pug", "chihuahua", "greyhound", "spaniel", "dalmatian", "rottweiler", "pet", "pets", "pup",
    "pups", "kitty", "kitties", "axolotl", "spider", "tarantula", "iguana", "cockatiel", "duck",
    "ducks", "alpaca", "llama",
];

/// Family and others whom "my" makes one's own.
#[rustfmt::skip]
pub(super) const KIN: &[&str] = &[
    "mother", "mom", "mum", "mama", "mommy", "mummy", "father", "dad", "papa", "daddy", "parents",
    "parent", "sister", "sisters", "brother", "brothers", "sibling", "siblings", "son", "sons",
    "daughter", "daughters", "kid", "kids", "child", "children", "baby", "twins", "twin",
    "triplets", "wife", "husband", "partner", "spouse", "girlfriend", "boyfriend", "fiance",
    "fiancé", "fiancee", "fiancée", "grandmother", "grandma", "granny", "nana", "gran",
    "grandfather", "grandpa", "grandad", "granddad", "grandparents", "grandson", "granddaughter",
    "grandkids", "grandchildren", "grandchild", "aunt", "auntie", "uncle", "cousin", "cousins",
    "niece", "nieces", "nephew", "nephews", "mother-in-law", "father-in-law", "sister-in-law",
    "brother-in-law", "in-laws", "stepmother", "stepmom", "stepfather", "stepdad", "stepson",
    "stepdaughter", "stepsister", "stepbrother", "half-brother", "half-sister", "godmother",
    "godfather", "godson", "goddaughter", "friend", "friends", "roommate", "roommates",
    "flatmate", "flatmates", "housemate", "housemates", "boss", "manager", "colleague",
    "colleagues", "coworker", "co-worker", "coworkers", "neighbor", "neighbour", "neighbors",
    "neighbours", "teacher", "mentor", "therapist", "family", "ex", "ex-wife", "ex-husband",
    "ex-boyfriend", "ex-girlfriend", "bestie", "pal", "buddy", "mate", "landlord", "landlady",
];

/// Those of whom there is one at a time, so that a new name replaces the old.
#[rustfmt::skip]
pub(super) const SOLE_KIN: &[&str] = &[
    "mother", "mom", "mum", "father", "dad", "wife", "husband", "partner", "spouse", "girlfriend",
    "boyfriend", "fiance", "fiancé", "fiancee", "fiancée", "boss", "manager", "landlord",
    "landlady",
];

/// Things worth knowing that somebody has.
#[rustfmt::skip]
pub(super) const BELONGINGS: &[&str] = &[
    "car", "cars", "bike", "bikes", "bicycle", "motorcycle", "motorbike", "scooter", "moped",
    "boat", "sailboat", "yacht", "kayak", "canoe", "truck", "pickup", "van", "suv", "minivan",
    "convertible", "house", "houses", "home", "flat", "apartment", "condo", "cottage", "cabin",
    "studio", "farm", "land", "garden", "allotment", "balcony", "backyard", "pool", "sauna",
    "greenhouse", "workshop", "laptop", "computer", "pc", "desktop", "macbook", "mac",
    "chromebook", "phone", "iphone", "android", "smartphone", "smartwatch", "ipad", "tablet",
    "kindle", "console", "consoles", "playstation", "ps4", "ps5", "xbox", "switch", "guitar",
    "guitars", "piano", "violin", "cello", "drums", "ukulele", "saxophone", "trumpet", "flute",
    "keyboard", "synthesizer", "bass", "banjo", "accordion", "harp", "camera", "cameras", "drone",
    "telescope", "printer", "tattoo", "tattoos", "piercing", "piercings", "shop", "store",
    "restaurant", "bakery", "cafe", "café", "bar", "salon", "business", "company", "startup",
    "agency", "blog", "podcast", "channel", "newsletter", "website", "band", "tesla", "bmw",
    "audi", "toyota", "honda", "ford", "volvo", "volkswagen", "vw", "mercedes", "porsche",
    "ferrari", "subaru", "mazda", "hyundai", "kia", "jeep", "vespa", "prius", "civic", "corolla",
    "golf", "caravan", "camper", "campervan", "rv", "motorhome", "collection", "library",
    "aquarium", "treadmill", "trailer", "tractor", "skateboard", "surfboard", "snowboard", "skis",
    "tent", "turntable", "record", "vinyl", "hair", "scar", "birthmark", "eyes", "beard",
    "freckles", "glasses", "dimples", "braces", "pacemaker", "passport", "citizenship",
    "scholarship", "mortgage", "license", "licence",
];

/// Conditions of health, by their last word.
#[rustfmt::skip]
pub(super) const CONDITIONS: &[&str] = &[
    "diabetes", "asthma", "adhd", "add", "autism", "aspergers", "migraines", "migraine", "celiac",
    "coeliac", "epilepsy", "anxiety", "depression", "hypertension", "cancer", "arthritis",
    "insomnia", "eczema", "psoriasis", "ibs", "crohn's", "colitis", "dyslexia", "dyspraxia",
    "tinnitus", "anemia", "anaemia", "fibromyalgia", "lupus", "scoliosis", "endometriosis",
    "pcos", "ocd", "ptsd", "bipolar", "narcolepsy", "glaucoma", "cataracts", "osteoporosis",
    "parkinson's", "alzheimer's", "sclerosis", "ms", "hypothyroidism", "hyperthyroidism",
    "hashimoto's", "lyme", "hepatitis", "hiv", "gout", "vertigo", "reflux", "gerd", "apnea",
    "allergy", "allergies", "intolerance", "intolerances", "disorder", "disease", "syndrome",
    "condition", "pressure", "cholesterol", "murmur", "hernia", "disability", "phobia",
];

/// Languages, as they follow "speak" and "learn".
#[rustfmt::skip]
pub(super) const LANGUAGES: &[&str] = &[
    "english", "spanish", "french", "german", "italian", "portuguese", "dutch", "swedish",
    "norwegian", "danish", "finnish", "icelandic", "polish", "czech", "slovak", "hungarian",
    "romanian", "bulgarian", "serbian", "croatian", "bosnian", "slovenian", "greek", "turkish",
    "russian", "ukrainian", "arabic", "hebrew", "persian", "farsi", "urdu", "hindi", "bengali",
    "punjabi", "tamil", "telugu", "marathi", "gujarati", "malayalam", "kannada", "sinhala",
    "nepali", "mandarin", "cantonese", "chinese", "japanese", "korean", "vietnamese", "thai",
    "indonesian", "malay", "tagalog", "filipino", "swahili", "amharic", "yoruba", "igbo", "hausa",
    "zulu", "afrikaans", "catalan", "basque", "galician", "welsh", "irish", "gaelic", "latin",
    "esperanto", "lithuanian", "latvian", "estonian", "albanian", "macedonian", "georgian",
    "armenian", "mongolian", "tibetan", "yiddish", "maltese", "somali", "quechua", "asl",
];

/// Where people are from, as an adjective.
#[rustfmt::skip]
pub(super) const NATIONALITIES: &[&str] = &[
    "american", "british", "english", "scottish", "welsh", "irish", "canadian", "australian",
    "french", "german", "italian", "spanish", "portuguese", "dutch", "belgian", "swiss",
    "austrian", "swedish", "norwegian", "danish", "finnish", "icelandic", "polish", "czech",
    "slovak", "hungarian", "romanian", "bulgarian", "serbian", "croatian", "bosnian", "slovenian",
    "greek", "turkish", "cypriot", "russian", "ukrainian", "belarusian", "georgian", "armenian",
    "israeli", "palestinian", "lebanese", "syrian", "jordanian", "iraqi", "iranian", "persian",
    "saudi", "emirati", "egyptian", "moroccan", "algerian", "tunisian", "libyan", "sudanese",
    "ethiopian", "eritrean", "somali", "kenyan", "ugandan", "tanzanian", "nigerian", "ghanaian",
    "senegalese", "cameroonian", "congolese", "rwandan", "zimbabwean", "south-african", "indian",
    "pakistani", "bangladeshi", "nepali", "nepalese", "chinese", "taiwanese", "japanese",
    "korean", "vietnamese", "thai", "cambodian", "indonesian", "malaysian", "singaporean",
    "filipino", "filipina", "mongolian", "kazakh", "uzbek", "afghan", "mexican", "guatemalan",
    "honduran", "salvadoran", "nicaraguan", "colombian", "venezuelan", "ecuadorian", "peruvian",
    "bolivian", "chilean", "argentinian", "argentine", "uruguayan", "paraguayan", "brazilian",
    "cuban", "dominican", "jamaican", "haitian", "puerto-rican", "trinidadian", "maltese",
    "estonian", "latvian", "lithuanian", "albanian", "macedonian", "montenegrin", "european",
    "african", "asian", "latina", "latino", "hispanic", "kiwi", "scouse", "basque", "catalan",
    "sicilian", "bavarian", "texan", "californian", "parisian", "londoner", "berliner",
];

/// What people count themselves among: ethnicities, parties, signs of the zodiac, generations.
#[rustfmt::skip]
pub(super) const KINDS_OF_PEOPLE: &[&str] = &[
    "arab", "kurdish", "kurd", "tamil", "punjabi", "gujarati", "bengali", "berber", "amazigh", "pashtun", "hmong",
    "romani", "inuit", "maori", "māori", "aboriginal", "indigenous", "navajo", "cherokee", "lakota",
    "hispanic", "latinx", "chicano", "chicana", "creole", "cajun", "caribbean", "pacific-islander", "hawaiian",
    "afro-caribbean", "afro-latina", "afro-latino", "biracial", "multiracial", "mixed-race", "mestizo", "mestiza",
    "caucasian", "slavic", "scandinavian", "nordic", "ashkenazi", "sephardic", "flemish", "walloon",
    "corsican", "yoruba", "igbo", "hausa", "zulu", "xhosa", "republican", "democrat", "democratic", "conservative",
    "tory", "labour", "liberal", "libertarian", "socialist", "communist", "anarchist", "centrist", "progressive",
    "left-wing", "right-wing", "apolitical", "aries", "taurus", "gemini", "virgo", "libra", "scorpio",
    "sagittarius", "capricorn", "aquarius", "pisces", "millennial", "boomer", "zoomer", "xennial", "gen-x", "gen-z",
    "gen-y", "gen-alpha", "genz", "genx",
];

/// The words that end such a name of two, and are part of no person's.
pub(super) const OF_KINDS: &[&str] = &["rican", "lankan", "zealander", "arabian", "islander"];

/// The same where they stand alone: with another word they are surnames.
pub(super) const ALONE_OF_KINDS: &[&str] = &["black", "white", "brown", "cancer", "green"];

/// What somebody is and stays for a while.
#[rustfmt::skip]
pub(super) const TRAITS: &[&str] = &[
    "vegan", "vegetarian", "pescatarian", "pescetarian", "flexitarian", "gay", "lesbian",
    "bisexual", "bi", "queer", "pansexual", "asexual", "trans", "transgender", "nonbinary",
    "non-binary", "catholic", "christian", "muslim", "jewish", "buddhist", "hindu", "sikh",
    "atheist", "agnostic", "protestant", "orthodox", "mormon", "religious", "introverted",
    "extroverted", "left-handed", "right-handed", "ambidextrous", "colourblind", "colorblind",
    "colour-blind", "color-blind", "deaf", "blind", "dyslexic", "autistic", "diabetic",
    "epileptic", "asthmatic", "bipolar", "anemic", "neurodivergent", "pregnant", "retired",
    "unemployed", "self-employed", "freelance", "childfree", "childless", "bilingual",
    "trilingual", "multilingual", "sober", "hypothyroid", "coeliac", "celiac", "teetotal",
    "semi-retired", "bald", "immunocompromised", "short-sighted", "near-sighted", "nearsighted",
    "farsighted", "hearing-impaired", "disabled",
];

/// What somebody is as a noun, beside a job.
#[rustfmt::skip]
pub(super) const BEINGS: &[&str] = &[
    "vegan", "vegetarian", "pescatarian", "flexitarian", "introvert", "extrovert", "ambivert",
    "feminist", "pacifist", "minimalist", "perfectionist", "atheist", "agnostic", "christian",
    "catholic", "muslim", "buddhist", "hindu", "jew", "sikh", "quaker", "mormon", "veteran",
    "runner", "gamer", "hiker", "cyclist", "climber", "swimmer", "knitter", "surfer", "skier",
    "snowboarder", "rower", "golfer", "sailor", "diver", "birdwatcher", "birder", "collector",
    "foodie", "fan", "bookworm", "geek", "nerd", "cinephile", "audiophile", "homebody", "vampire",
    "person", "owl", "lover", "enthusiast", "buff", "aficionado", "fanatic", "addict", "widow",
    "widower", "orphan", "twin", "diabetic", "coeliac", "celiac", "insomniac", "immigrant",
    "expat", "refugee", "citizen", "native", "resident", "parent", "mother", "father", "mom",
    "mum", "dad", "grandmother", "grandfather", "grandma", "grandpa", "stepmom", "stepdad",
    "homeowner", "smoker", "nonsmoker", "non-smoker", "vegetarians", "gardener", "freelancer",
    "volunteer", "graduate", "student", "undergrad", "undergraduate", "freshman", "sophomore",
    "junior", "senior", "pensioner", "retiree", "stamp-collector", "yogi", "crossfitter",
    "bodybuilder", "powerlifter", "weightlifter", "marathoner", "triathlete", "sprinter", "boxer",
    "chess-player", "player", "dancer", "baker", "reader",
];

/// What people work as, by the last word.
#[rustfmt::skip]
pub(super) const JOBS: &[&str] = &[
    "nurse", "doctor", "teacher", "engineer", "developer", "programmer", "coder", "designer",
    "lawyer", "attorney", "solicitor", "barrister", "paralegal", "chef", "cook", "baker",
    "barista", "waiter", "waitress", "bartender", "pilot", "driver", "trucker", "mechanic",
    "electrician", "plumber", "carpenter", "joiner", "mason", "farmer", "rancher", "writer",
    "author", "novelist", "poet", "playwright", "screenwriter", "copywriter", "journalist",
    "reporter", "editor", "artist", "musician", "singer", "songwriter", "composer", "conductor",
    "guitarist", "pianist", "drummer", "violinist", "dj", "actor", "actress", "comedian",
    "dancer", "choreographer", "model", "photographer", "videographer", "painter", "sculptor",
    "potter", "architect", "scientist", "researcher", "professor", "lecturer", "tutor",
    "academic", "scholar", "postdoc", "accountant", "auditor", "bookkeeper", "analyst", "actuary",
    "consultant", "manager", "director", "executive", "ceo", "cto", "cfo", "coo", "founder",
    "cofounder", "co-founder", "entrepreneur", "freelancer", "contractor", "salesperson",
    "salesman", "saleswoman", "marketer", "strategist", "banker", "trader", "broker", "realtor",
    "secretary", "receptionist", "librarian", "archivist", "curator", "paramedic", "firefighter",
    "policeman", "policewoman", "cop", "detective", "officer", "soldier", "marine", "sergeant",
    "captain", "surgeon", "physician", "pediatrician", "paediatrician", "cardiologist",
    "radiologist", "anesthesiologist", "dermatologist", "oncologist", "gynecologist",
    "neurologist", "dentist", "hygienist", "orthodontist", "veterinarian", "vet", "pharmacist",
    "psychologist", "psychiatrist", "therapist", "counselor", "counsellor", "physiotherapist",
    "midwife", "doula", "optician", "optometrist", "biologist", "microbiologist", "chemist",
    "physicist", "mathematician", "statistician", "economist", "historian", "archaeologist",
    "anthropologist", "sociologist", "linguist", "geologist", "astronomer", "meteorologist",
    "ecologist", "botanist", "zoologist", "translator", "interpreter", "hairdresser",
    "hairstylist", "barber", "beautician", "tailor", "seamstress", "jeweler", "jeweller",
    "butcher", "fishmonger", "florist", "gardener", "landscaper", "cleaner", "janitor",
    "housekeeper", "technician", "welder", "machinist", "operator", "administrator", "admin",
    "sysadmin", "assistant", "intern", "trainee", "apprentice", "coordinator", "planner",
    "producer", "filmmaker", "cinematographer", "animator", "illustrator", "streamer", "youtuber",
    "blogger", "vlogger", "podcaster", "influencer", "coach", "trainer", "instructor",
    "recruiter", "guard", "bodyguard", "judge", "politician", "senator", "mayor", "diplomat",
    "ambassador", "priest", "pastor", "rabbi", "imam", "monk", "nun", "minister", "chaplain",
    "sailor", "fisherman", "miner", "builder", "roofer", "postman", "mailman", "courier",
    "cashier", "clerk", "teller", "steward", "stewardess", "attendant", "worker", "specialist",
    "supervisor", "foreman", "owner", "stylist", "sommelier", "nanny", "babysitter", "caregiver",
    "carer", "housewife", "homemaker", "househusband", "professional", "advisor", "adviser",
    "agent", "representative", "educator", "principal", "headteacher", "superintendent", "dean",
    "surveyor", "inspector", "investigator", "lobbyist", "activist", "organizer", "organiser",
    "philosopher", "theologian", "statesman", "lumberjack", "forester", "ranger", "zookeeper",
    "shepherd", "beekeeper", "brewer", "winemaker", "distiller", "roaster", "toolmaker",
    "blacksmith", "goldsmith", "watchmaker", "upholsterer", "glazier", "scaffolder", "bricklayer",
    "plasterer", "tiler", "decorator", "locksmith", "undertaker", "magician", "clown", "stuntman",
    "athlete", "footballer", "cricketer", "referee", "umpire", "jockey", "physiologist",
    "nutritionist", "dietitian", "dietician", "masseur", "masseuse", "acupuncturist",
    "chiropractor", "osteopath", "podiatrist", "audiologist", "epidemiologist", "virologist",
    "geneticist", "biochemist", "technologist", "tester", "devops", "sre",
];

/// Capitalised words that follow "I am" and are no names.
#[rustfmt::skip]
pub(super) const MOODS: &[&str] = &[
    "a", "an", "the", "not", "so", "very", "really", "fine", "good", "great", "ok", "okay",
    "sorry", "sad", "happy", "tired", "back", "here", "there", "home", "ready", "done", "sure",
    "glad", "afraid", "scared", "bored", "hungry", "thirsty", "sick", "ill", "well", "better",
    "worse", "new", "old", "young", "late", "early", "busy", "free", "lost", "alone", "single",
    "married", "engaged", "curious", "excited", "nervous", "anxious", "worried", "angry", "mad",
    "upset", "confused", "stuck", "serious", "kidding", "joking", "just", "still", "also",
    "always", "never", "in", "on", "at", "from", "with", "about", "going", "coming", "looking",
    "trying", "wondering", "thinking", "pretty", "quite", "too", "half", "full", "mostly",
    "maybe", "probably", "god", "batman", "looky", "look", "out", "off", "up", "down", "over",
    "under", "through", "all", "both", "alive", "dead", "awake", "asleep", "human", "broke",
    "rich", "poor", "fat", "thin", "tall", "short", "male", "female", "straight", "certain",
    "able", "unable", "aware", "unsure", "available", "monday", "tuesday", "wednesday",
    "thursday", "friday", "saturday", "sunday", "january", "february", "march", "april", "june",
    "july", "august", "september", "october", "november", "december", "no", "yes", "your", "my",
    "his", "her", "their", "our", "its", "it", "that", "this", "me", "you", "we", "i", "hi",
    "hello", "hey", "thanks", "thank", "please", "oh", "wow", "lol", "if", "when", "where", "why",
    "how", "what", "who", "which", "and", "or", "but", "because", "team", "vegan",
];

/// Verbs that state no event, whatever date they come with.
#[rustfmt::skip]
pub(super) const STATES: &[&str] = &[
    "think", "last", "know", "need", "want", "feel", "hope", "wish", "guess", "mean", "believe",
    "ask", "tell", "say", "wonder", "look", "remember", "remembered", "forgot", "like", "love",
    "hate", "prefer", "understand", "seem", "appear", "told", "asked", "said", "thought", "felt",
    "wanted", "needed", "hoped", "noticed", "realised", "realized", "meant", "can", "could",
    "should", "would", "might", "may", "must", "shall", "been", "get", "knew", "liked", "loved",
    "hated", "enjoyed", "woke", "slept", "wake", "try", "tried", "supposed", "assume", "assumed",
    "expect", "expected", "wondered", "worried", "used", "saw", "heard", "kept", "looked", "see",
    "promise", "mentioned", "live", "work",
];

/// Verbs that make a sentence of what is to be remembered.
#[rustfmt::skip]
pub(super) const STATED: &[&str] = &[
    "I", "is", "are", "am", "was", "were", "has", "have", "will", "can", "needs", "wants",
    "likes", "loves", "hates", "prefers", "works", "lives", "starts", "ends", "leaves", "opens",
    "closes", "costs", "expires", "goes", "comes", "takes", "means",
];
