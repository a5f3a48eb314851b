"""The words, names and values that synthetic conversations are made of, split into a training and a held-out part."""

# ruff: noqa: SIM905, E501 - word lists are read and edited as text

from __future__ import annotations

import random
import string
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

Scalar = str | int | float | bool
T = TypeVar("T")

QUERY_VERBS = ("get", "get", "get", "find", "check", "show", "fetch", "read", "lookup", "search")
ACTION_VERBS = (
    *("create", "make", "book", "set", "add", "update", "delete", "send", "start", "stop", "open", "close"),
    *("order", "schedule", "cancel", "rent", "reserve", "print", "play", "buy", "clean", "move", "save", "pay"),
)

NOUNS = tuple(
    """weather|forecast|temperature|humidity|population|capital|price|stock price|exchange rate|news|recipe|flight|train
ticket|hotel|room|table|restaurant|menu|order|invoice|payment|balance|account|contact|email|message|reminder|alarm|timer
event|meeting|calendar|task|note|list|file|folder|document|report|image|photo|video|song|album|playlist|movie|book|author
quote|definition|translation|synonym|language|country|city|route|distance|map|address|postcode|timezone|sunrise|sunset
tide|wind speed|air quality|rainfall|earthquake|planet|star|moon phase|player|team|match|score|league|ranking|course
student|teacher|grade|exam|lesson|library|patient|doctor|appointment|medicine|allergy|calories|workout|heart rate
car|truck|bike|scooter|parking spot|fuel price|charging station|bus|tram|taxi|ferry|harbor|ship|cargo|parcel|delivery
warehouse|inventory|product|review|discount|coupon|cart|shop|brand|supplier|factory|machine|sensor|light|lamp|heater
thermostat|door|lock|camera|curtain|speaker|printer|server|database|backup|log|ticket status|issue|branch|release|build
container|domain|password|user|profile|permission|role|group|channel|survey|vote|petition|law|tax|loan|mortgage|interest rate
salary|job|employee|department|office|desk|visitor|badge|garden|plant|tree|flower|soil|seed|harvest|farm|animal|pet|dog
cat|horse|bird|fish|whale|beach|lake|river|mountain|trail|campsite|cave|museum|gallery|painting|statue|theater|concert
festival|party|gift|wedding|cake|coffee|tea|wine|bread|cheese|pizza|soup|fruit|market|auction|antique|coin|stamp
poem|letter|puzzle|riddle|joke|game|level|quest|dragon|castle|sword|potion|spell|robot|rocket|satellite|orbit|crater
glacier|volcano|bridge|tunnel|tower|elevator|roof|window|carpet|sofa|mirror|candle|blanket|jacket|shirt|shoe size|ring
necklace|watch|phone|laptop|keyboard|battery|signal|network|router|invoice number|serial number|warranty|insurance
passport|visa|border|airport|gate|seat|luggage|lounge|cruise|island|lighthouse|anchor|sail|kayak|surfboard|ski pass""".replace(
        "\n", "|"
    ).split("|")
)

CITIES = tuple(
    """Paris|Rome|London|Berlin|Madrid|Lisbon|Oslo|Vienna|Prague|Dublin|Athens|Warsaw|Budapest|Helsinki|Stockholm|Copenhagen
Amsterdam|Brussels|Zurich|Geneva|Milan|Naples|Turin|Venice|Munich|Hamburg|Cologne|Lyon|Nice|Toulouse|Porto|Seville|Valencia
Barcelona|Edinburgh|Glasgow|Leeds|Bristol|Cork|Bergen|Malmo|Riga|Tallinn|Vilnius|Minsk|Kyiv|Odessa|Sofia|Bucharest|Belgrade
Zagreb|Split|Sarajevo|Istanbul|Ankara|Izmir|Cairo|Tunis|Algiers|Rabat|Lagos|Accra|Nairobi|Kampala|Cape Town|Durban|Dakar
Tehran|Baghdad|Dubai|Doha|Muscat|Karachi|Lahore|Delhi|Mumbai|Chennai|Kolkata|Dhaka|Colombo|Bangkok|Hanoi|Manila|Jakarta
Singapore|Kuala Lumpur|Hong Kong|Taipei|Seoul|Busan|Tokyo|Osaka|Kyoto|Sapporo|Beijing|Shanghai|Sydney|Melbourne|Perth|Brisbane
Auckland|Wellington|New York|Boston|Chicago|Houston|Dallas|Denver|Seattle|Portland|San Francisco|Los Angeles|San Diego|Miami
Atlanta|Toronto|Montreal|Vancouver|Ottawa|Mexico City|Havana|Bogota|Lima|Quito|Santiago|Buenos Aires|Rio|Sao Paulo|Montevideo
Reykjavik|Luxembourg|Ghent|Utrecht|Krakow|Gdansk|Brno|Graz|Salzburg|Basel|Bern|Florence|Palermo|Malaga|Bilbao|Faro|Nantes""".replace(
        "\n", "|"
    ).split("|")
)

COUNTRIES = tuple(
    """France|Italy|Spain|Portugal|Germany|Austria|Norway|Sweden|Finland|Denmark|Poland|Greece|Turkey|Egypt|Kenya|Ghana|Chile
Peru|Brazil|Mexico|Canada|India|China|Japan|Korea|Vietnam|Thailand|Iran|Iraq|Nepal|Cuba|Iceland|Ireland|Hungary|Croatia
Estonia|Latvia|Malta|Cyprus|Morocco|Senegal|Angola|Zambia|Fiji|New Zealand|South Africa|United States|Costa Rica""".replace(
        "\n", "|"
    ).split("|")
)

PEOPLE = tuple(
    """Anna|Ben|Clara|David|Emma|Felix|Grace|Henry|Ida|Jack|Kate|Leo|Maria|Nora|Oscar|Paula|Quinn|Rosa|Sam|Tina|Uma|Victor
Wendy|Xavier|Yara|Zoe|Alice|Bob|Carol|Daniel|Eva|Frank|Gina|Hugo|Iris|John|Karen|Liam|Mia|Noah|Olga|Peter|Rita|Simon|Tom
Ursula|Vera|Will|Yusuf|Zack|Amir|Bella|Carlos|Diana|Erik|Fatima|George|Hannah|Ivan|Julia|Kenji|Laura|Mark|Nina|Omar|Priya""".replace(
        "\n", "|"
    ).split("|")
)

LANGUAGES = tuple(
    "English|French|Spanish|German|Italian|Dutch|Swedish|Danish|Polish|Czech|Greek|Turkish|Arabic|Hindi|Bengali|Thai|Korean"
    "|Japanese|Chinese|Russian|Finnish|Welsh|Irish|Latin|Hebrew|Swahili|Zulu|Malay".split("|")
)
CURRENCIES = tuple("USD EUR GBP JPY CHF SEK NOK DKK PLN CZK INR CNY KRW BRL MXN CAD AUD NZD ZAR TRY".split())
TICKERS = tuple("AAPL TSLA MSFT NVDA AMZN GOOG META IBM ORCL INTC AMD NFLX SAP SHOP UBER".split())
COLORS = tuple("red green blue yellow black white orange purple pink brown gray silver gold".split())

WORDS = tuple(
    """milk bread morning evening team project budget review garden window dinner lunch call mother father sister brother
friend school holiday trip summer winter spring autumn river mountain forest ocean silver golden happy quiet loud bright
dark small large early late first second last new old fresh sweet salt pepper apple banana cherry lemon orange tomato
potato carrot onion rice pasta soup cake chocolate coffee tea water juice wine paper pencil table chair door key lamp
phone screen music guitar piano drum dance movie story poem letter stamp photo paint color circle square triangle number
weekly daily monthly annual plan report summary draft final update status check list order delivery package gift card
birthday wedding party concert match game score goal race run walk swim climb bike car train plane ship boat island
beach sand stone wood metal glass cotton wool silk leather rain snow wind storm cloud sun moon star planet space rocket
robot machine engine battery cable network signal code bug test build release server data cloud backup secret public
private open closed fast slow cheap safe warm cold hot dry wet soft hard light heavy north south east west central royal
blue green red yellow black white gym run yoga standup dentist doctor meeting lesson homework exam laundry shopping""".split()
)

_ONSETS = [
    "",
    *"b bl br c ch cl d dr f fl g gr h j k kr l m n p ph pl pr qu r s sh sk sl sn sp st t th tr v w wh x y z".split(),
]
_NUCLEI = "a e i o u a e i o u ai ea ee ie oa oo ou au io ia y".split()
_CODAS = ["", "", "", "", *"b ck d f g k l ll m n n nd ng nt p r r rd rk rn rt s s sh st t th x z".split()]


def is_held_out(text: str) -> bool:
    """Tell whether a noun or a value belongs to the evaluation only; decided by its CRC, so no list is needed."""
    return zlib.crc32(text.lower().encode()) % 7 == 0


class Values:
    """Random nouns, names and argument values of one side of the split.

    Args:
        rng: Source of all randomness.
        held_out: Draw only what training never sees (True) or only what it may see (False).
        pieces: Lower-case tokens of the tokenizer. Made-up words are then mostly strung together from these, so that
            every token occurs in something to copy; without that, words outside the lists come out garbled.
        opaque: The names of tools and parameters tell nothing, so that only reading the tools helps.
        hard: Much to copy and to tell apart: long nouns of odd words, many tools of many parameters, some of one noun.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        held_out: bool,
        pieces: Sequence[str] = (),
        opaque: bool = False,
        hard: bool = False,
    ) -> None:
        self.rng = rng
        self.held_out = held_out
        self.pieces = pieces
        self.opaque = opaque
        self.hard = hard

    def allowed(self, value: Scalar) -> bool:
        """Tell whether a value lies on this side; one-digit numbers, booleans and two-letter words lie on both."""
        text = str(value)
        return len(text) < 3 or isinstance(value, bool) or is_held_out(text) == self.held_out

    def draw(self, make: Callable[[], T]) -> T:
        """Draw until the value lies on this side of the split."""
        while not self.allowed(str(value := make())):
            pass
        return value

    def pick(self, items: Sequence[str]) -> str:
        """Pick from a list, on this side of the split."""
        return self.draw(lambda: self.rng.choice(items))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.rng.random() < probability

    def made_up_word(self) -> str:
        """Return a word of random pieces or syllables, or now and then plain random letters."""
        rng = self.rng
        if self.pieces and rng.random() < (0.5 if self.hard else 0.75):
            return "".join(rng.choices(self.pieces, k=rng.choice((1, 1, 2, 2, 3))))
        if rng.random() < 0.12:
            return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7)))
        syllables = rng.choice((1, 1, 2, 2, 2, 3))
        return "".join(rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(syllables))

    def word(self) -> str:
        """Return one lower-case word, half of them made up."""
        return self.draw(lambda: self.made_up_word() if self.chance(0.5) else self.rng.choice(WORDS))

    def name(self) -> str:
        """Return a capitalized word or two, mostly made up."""
        return self.draw(lambda: " ".join(self.made_up_word().capitalize() for _ in range(1 + self.chance(0.2))))

    def phrase(self, longest: int = 3) -> str:
        """Return one to `longest` lower-case words."""
        return self.draw(lambda: " ".join(self.word() for _ in range(self.rng.randint(1, longest))))

    def one_of(self, items: Sequence[str]) -> str:
        """Return a known name, or as often a made-up one."""
        return self.name() if self.chance(0.5) else self.pick(items)

    def code(self) -> str:
        """Return an identifier such as `QX-417` or `B72`."""
        rng = self.rng

        def make() -> str:
            letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 3)))
            return letters + rng.choice(("", "", "-")) + "".join(rng.choices(string.digits, k=rng.randint(1, 4)))

        return self.draw(make)

    def ticker(self) -> str:
        """Return two to five capital letters."""
        if self.chance(0.3):
            return self.pick(TICKERS)
        return self.draw(lambda: "".join(self.rng.choices(string.ascii_uppercase, k=self.rng.randint(2, 5))))

    def date(self) -> str:
        """Return an ISO date."""
        rng = self.rng
        return self.draw(lambda: f"{rng.randint(2019, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}")

    def clock(self) -> str:
        """Return a time of day such as `07:30`."""
        return self.draw(lambda: f"{self.rng.randint(0, 23):02}:{self.rng.choice((0, 5, 10, 15, 20, 30, 40, 45)):02}")

    def email(self) -> str:
        """Return an address at a made-up host."""
        return self.draw(lambda: f"{self.word()}@{self.word()}.{self.rng.choice(('com', 'org', 'net'))}")

    def path(self) -> str:
        """Return a file name."""
        return self.draw(lambda: f"{self.word()}.{self.rng.choice(('txt', 'pdf', 'csv', 'md', 'png', 'json'))}")

    def integer(self) -> int:
        """Return an integer, mostly small, one in twelve negative."""
        rng = self.rng

        def make() -> int:
            value = rng.randint(0, 10 ** rng.choice((1, 1, 2, 2, 3, 4, 5)))
            return -value if rng.random() < 0.08 else value

        return self.draw(make)

    def count(self) -> int:
        """Return a small positive integer."""
        return self.draw(lambda: self.rng.randint(1, self.rng.choice((9, 20, 60))))

    def number(self) -> int | float:
        """Return a decimal number of one or two places, or an integer."""
        rng = self.rng

        def make() -> float:
            value = round(rng.uniform(0, 10 ** rng.choice((1, 2, 2, 3))), rng.choice((1, 1, 2)))
            return -value if rng.random() < 0.08 else value

        return self.integer() if self.chance(0.35) else self.draw(make)

    def noun(self) -> str:
        """Return what a tool is about; a third of them made up."""
        if self.hard and self.chance(0.35):
            return self.draw(lambda: f"{self._plain_noun()} {self._plain_noun()}")
        return self._plain_noun()

    def _plain_noun(self) -> str:
        if self.chance(0.35):
            return self.draw(self.made_up_word)
        return self.pick(NOUNS)
