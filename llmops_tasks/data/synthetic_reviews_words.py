"""The words that `synthetic_reviews` makes its reviews of. `<name>` and `<email>` are places of planted identifiers."""

# fmt: off
# A product's parts with what people say of each: (part, praise, complaint).
Part = tuple[str, tuple[str, ...], tuple[str, ...]]
PRODUCTS: dict[str, tuple[Part, ...]] = {
    "kettle": (
        ("lid", ("the lid shuts with a soft click", "the lid opens with one thumb"), ("the lid jams every morning", "the lid fell off in my hand")),
        ("spout", ("it pours without a drip", "the spout aims true"), ("it dribbles down the side", "half of the water lands on the worktop")),
        ("speed", ("water boils before the toast is up", "a full pot is ready in two minutes"), ("it takes an age to boil", "you could walk to the well and back meanwhile")),
        ("finish", ("the enamel wipes clean", "the steel still shines"), ("rust showed up within a month", "limescale flakes float in my tea")),
    ),
    "headphones": (
        ("sound", ("voices come through crisp and warm", "I hear strings I never noticed before"), ("everything sounds like a tin can", "the bass buzzes as if a fly were trapped")),
        ("battery", ("a charge lasts the whole week", "they ran from Leeds to Lisbon on one charge"), ("they die before lunch", "the battery was flat after an hour")),
        ("fit", ("I forget that I wear them", "they sit snug without pinching"), ("they squeeze like a vice", "they slide off when I nod")),
        ("pairing", ("they connected at once", "switching between phone and laptop just works"), ("they lose the connection in every corridor", "pairing took a whole evening")),
    ),
    "rucksack": (
        ("harness", ("the straps carry a heavy load gently", "no red shoulders after ten miles"), ("the straps cut into my neck", "a strap tore on the first hike")),
        ("zip", ("the zips glide", "the zips never snag"), ("a zip burst at the airport", "the zips catch on the lining")),
        ("rain cover", ("my books stayed dry in a downpour", "rain beads off it"), ("it soaked through in a drizzle", "my sandwiches swam")),
        ("layout", ("there is a pocket for everything", "my flask stands upright at last"), ("the pockets are too shallow for a phone", "everything sinks to the bottom")),
    ),
    "desk lamp": (
        ("light", ("the light is soft on the eyes", "my whole desk is evenly lit"), ("it flickers all evening", "the light is cold like in a morgue")),
        ("arm", ("the arm stays where I put it", "it swings round with a fingertip"), ("the arm sags within minutes", "the joint squeaks and droops")),
        ("switch", ("the dimmer turns silkily", "one tap and it glows"), ("the switch only reacts to the third tap", "the dimmer hums loudly")),
        ("base", ("it stands rock solid", "the foot hardly takes any space"), ("it topples over when the cat walks by", "the base scratched my table")),
    ),
    "running shoes": (
        ("sole", ("my knees thank me after every run", "they bounce me up the hill"), ("the sole came unglued in a fortnight", "I feel every pebble")),
        ("size", ("they fit like socks", "true to size even with thick socks"), ("they come up a whole size small", "my heel lifts out at each step")),
        ("grip", ("they hold on wet leaves", "I no longer slide on the towpath"), ("I slipped on damp pavement twice", "they skate on anything wet")),
        ("upper", ("my feet stay cool", "no blisters in three months"), ("the mesh ripped at the toe", "blisters on both heels")),
    ),
}
# The line that arrives in the second new week: other parts, other words, other troubles.
NEW_PRODUCTS: dict[str, tuple[Part, ...]] = {
    "cargo e-bike": (
        ("motor", ("the motor purrs up cobbled slopes", "torque comes in like a tailwind"), ("the motor cuts out at traffic lights", "the hub whines above twelve miles an hour")),
        ("range", ("forty miles with two toddlers aboard", "I charge on Sundays only"), ("the range halves in frost", "it was drained halfway to kindergarten")),
        ("app", ("firmware updates went smoothly", "theft alarm pinged me in time"), ("the app logs me out at each start", "a firmware update bricked the display")),
        ("brake", ("hydraulic discs bite gently", "it halts on a sixpence fully laden"), ("the discs screech through the whole street", "brake levers need a gorilla's grip")),
        ("crate", ("the crate swallows a week's groceries", "kids queue for a seat in the crate"), ("the crate rattles over kerbs", "the kickstand bends under the crate")),
    ),
    "smart helmet": (
        ("indicator", ("indicators are seen from afar", "drivers give way when it blinks"), ("indicators blink on the wrong side", "the rear diode went dark")),
        ("visor", ("the visor never steams up", "the visor snaps on magnetically"), ("the visor steams up at once", "the magnet lets go in crosswind")),
        ("intercom", ("the intercom beats shouting", "navigation whispers clearly"), ("the intercom crackles in drizzle", "navigation talks over my calls")),
    ),
}
GOOD = ("great", "lovely", "excellent", "superb", "reliable", "well made", "a joy", "impressive", "spot on", "solid", "brilliant", "a treat")
BAD = ("poor", "dreadful", "flimsy", "a letdown", "awful", "useless", "shoddy", "a nuisance", "cheap", "faulty", "a joke", "terrible")
# What is said of a part, and whether the adjective in it is turned round.
PLAIN = ("the {part} is {word}", "{word}, that {part}", "I find the {part} {word}", "its {part} is {word}")
TURNED = (
    "the {part} is not {word} at all", "nobody could call the {part} {word}", "the {part} is anything but {word}",
    "I would never say that the {part} is {word}", "the {part} is far from {word}", "I would hardly call the {part} {word}",
)
# Praise so faint that it counts for nothing.
FAINT = (
    "the {part} does what it says, no more", "the {part} is all right, I suppose", "the {part} is fine for the money, I guess",
    "one gets used to the {part}", "the {part} could be worse", "the {part} is great if you have never owned another",
    "the {part} is good enough for a guest room",
)
CONTRASTS = ("{first}, but {last}", "{first} - {last} though", "{first}. However, {last}", "{first}, yet {last}", "although {first}, {last}", "even though {first}, {last}")
PAIRS = ("{first}. {last}", "{first} and {last}", "{first}; {last}", "first of all, {first}. {last}")
VOICES = (
    "{said}.", "{said}!", "Bought the {product} in spring. {said}.", "{said}. Had mine for {days} days now.",
    "Dear team, {said}. Kind regards, <name>", "hi, {said}, thats it", "My sister asked about this {product}: {said}.",
    "{said}. You may write to me: <email>", "As an old customer (<name>) I must say: {said}.", "ok so... {said}!!",
    "Review of the {product}. {said}. Delivered on time.", "{said}. Colour as in the photo.", "{said}. - <name>, <email>",
)
FIRST_WORDS = ("", "", "", "honestly, ", "well, ", "after a while: ", "what can I say, ", "short version: ")
COUNTRIES = ("GB", "IE", "US", "CA", "AU")
MAIL_HOSTS = ("example.org", "example.com", "mail.example.net")
