"""How each event may be told.

`DEEDS` are verb phrases: the teller joins them ("Mara walked to the mill and gave
Ben the kite", "After finding the ring, ..."). `SENTENCES` stand by themselves. Some
events may be told either way. Marks are explained in `grammar.py`, slots in
`slots.py`.
"""

from __future__ import annotations

# --------------------------------------------------- deeds: subject to be supplied

DEEDS: dict[str, str] = {
    # ways to go
    "go": "[[*walk|*walk|*go|*go|*go|*hurry|*run] to {P}|*make {his} way to {P}"
    "|*go [straight|straight|all the way] to {P}]",
    "go_back": "[[*walk|*go|*hurry|*run] back to {P}|*return to {P}]",
    "carry": "[*take|*take|*carry|*bring] {O} to {P}",
    "come_by": "*come to {P}",
    "come_after": "[*follow {@B}|*go] to {P}",
    "chase": "*run after the {note} [|all the way ]to {P}",
    "chase_wind": "*run after it [|all the way ]to {P}",
    "rest": "[*rest for a while|*stop for a short rest|*sit down for a moment] {P!}",
    "hide_self": "*hide {P!}",
    "win_race": "*run as fast as the wind and *be the first to reach {P}",
    # giving and taking
    "give": "[*give {O} to {@B}|*give {@B} {O=}|*hand {O} to {@B}|*hand {@B} {O=}]",
    "lend": "[*give {O} to {@B}|*lend {@B} {O=}|*hand {O} to {@B}|*lend {O} to {@B}]",
    "give_back": "[*give {O} back to {@B}|*return {O} to {@B}|*give {@B} {O=} back]",
    "give_after_all": "*give {O} to {@B} after all",
    "give_up_prize": "*feel sorry for {@B} and *give {B:him} {O=}",
    "entrust": "[*give {O} to {@B}|*hand {@B} {O=}|*hand {O} to {@B}]",
    "deliver": "[*give {O} to {@B}|*hand {@B} {O=}|*hand {O} to {@B}]",
    "hand_in": "[*leave {O} with {@B}|*give {O} to {@B} to keep]",
    "sell": "[*hand {O} to {@B}|*hand {@B} {O=}|*give {@B} {O=}]",
    "swap": "*give {@B} {O=} for {X=}",
    # leaving and finding
    "leave": "[*leave {O} {atP}|*put {O} down {atP}|*forget {O} {atP}]",
    "forget": "[*leave {O} {atP} by mistake|*forget {O} {atP}|*leave {O} {spot}]",
    "hide": "[*hide {O} {spot}|*hide {O} {atP}]",
    "put_away": "[*put {O} {spot}|*leave {O} {spot}]",
    "find_again": "*find {O} {P!}",
    "find": "[*find {O} {spot}|*find {O} {atP}|*find {O} {spot}]",
    "discover": "[*find {O} {spot}|*pick up {O=} {spot}]",
    "stumble": "[*find {aO} {spot}|*pick up {aO} {spot}]",
    "use": "{deed}",
    # asking
    "ask_loan": "[*ask {@B} for {O}|*ask to borrow {O=}]",
    "ask_seen": "*ask {@B} about {O=}",
    "offer_swap": "*offer {@B} {O=} for {X=}",
    "ask_price": "*ask {@B} what {O=} cost",
    # counting
    "gain": "[*pick|*gather|*collect|*get] {n}",
    "buy": "[*buy|*get] {n}",
    "share": "[*give {n} to {@B}|*give {@B} {n}|*give {@B} {num}"
    "|*share {num} of {his} {items} with {@B}]",
    "drop_some": "[*lose|*drop] [{num} of {his} {items}|{n}]",
    "sell_some": "[*sell {num} of {his} {items}|*sell {n}]",
    "eat_some": "[*eat {num} of {his} {items}|*eat {n}]",
    "pay": "[*pay {@B} {n}|*give {@B} {n}|*pay {n} to {@B}]",
}

# ------------------------------------------------------------- whole sentences

SENTENCES: dict[str, str] = {
    # the start
    "open_day": "[On {day}, {weather}|It was {day}, and {weather}"
    "|One {day} in {month}, {weather}"
    "|It was a {day} [morning|afternoon] in {month}, and {weather}].",
    "open_briefly": "[On {day}, {weather}|It was {day}, and {weather}].",
    "open_month": "[One day|One morning|One afternoon|Early one morning] in {month}, "
    "{weather}.",
    "open_weather": "{weather}.",
    "hero": "[{A} was {a_trait} {person}|There was once {a_trait} {person} called {A!}"
    "|{A} was {a_trait} {person} who lived [near the church|by the road|by the sea"
    "|at the end of the road|in a small house]"
    "|Everyone knew {A!} as {a_trait} {person}].",
    # having and wanting
    "own": "[{A} [had|owned] {aO}|{A} had {aO} in {his} bag].",
    "treasure": "[{A} had {aO} that {he} loved|{A} owned {aO} and took it everywhere"
    "|{A} had {aO} and was very proud of it"
    "|{A} had {aO}, a present from {his} [mother|father|teacher]].",
    "want": "[{A} [wanted|needed|wished for] {aO!} to {goal}"
    "|{A} wanted to {goal_with}, but {he} {lack}"
    "|More than anything, {A} wanted {aO!} to {goal}"
    '|"I [need|wish I had] {aO!} to {goal}," [{said:A}|{sighed:A}]'
    "|For a long time, {A} had wanted {aO!} to {goal}].",
    "want_plainly": "{A} [wanted|needed|wished for] {aO!}.",
    "has_one": "[{A} had {aO} {P!}|People said that {A} had {aO} {P!}"
    "|{A}, who was {P!} that day, had {aO}|Luckily, {A} had {aO} {P!}].",
    "has_one_briefly": "[{A} had {aO} {P!}|{A} was {P!} with {aO}].",
    "sells": "[{A} had {aO} for sale {P!}|{A} was selling {aO} {P!}].",
    "bring": "{A} brought {aO}.",
    # asking and answering
    "ask_loan": '["[May|Can|Could] I borrow your {O!}, {B!}?" {asked:A}'
    '|"[Will|Could] you lend me your {O!}, {B!}?" {asked:A}].',
    "agree_loan": '["[Sure|Of course|Yes|With pleasure]," {replied:A}. "But '
    '[please |]bring it back [by evening|tonight|when you are done]."'
    '|"[Of course|Yes], {B!}, but only until tonight," {replied:A}.'
    "|{A} agreed at once.]",
    "refuse": '["[No|I am sorry|Not today], {B!}, I need it myself," {replied:A}.'
    '|"[No|Never]! It is mine," {replied:A}.'
    "|But {A} [shook {his} head|did not want to part with it|said no].]",
    "sad_refused": "{A} [was sad|went away with a heavy heart|was close to tears].",
    "agree": '["[Sure|Of course|Yes|Gladly|Why not|With pleasure], {B!}," {replied:A}.'
    "|{A} [agreed at once|nodded|smiled and said yes|was happy to agree].]",
    "condition": '"[But if you bring me {aO!}, {B!}, you may have {X=}'
    '|But bring me {aO!}, {B!}, and you shall have my {X!}]," {he} [said|added].',
    "ask_gift": '["{C!} needs {aO!}. May I have yours, {B!}?" {asked:A}'
    "|{A} told {@B} that {C!} needed {aO!}].",
    "keep_word": "{A} kept {his} word and gave {@B} {O=}.",
    "offer_back": '"Here is your {O!}, {B!}," {said:A}. "It was a great help."',
    "keep_it": '"[You may keep it|Keep it|It is yours now], {B!}," {replied:A}. "'
    '[I have no use for it|You need it more than I do]."',
    "ask_where": '"[Where is {O=}|What have you done with {O=}|Did you not bring {O=}]'
    ', {B!}?" {asked:A}.',
    "ashamed": '["Oh no! I left it {P!}," {cried:A}'
    "|{A} turned red. {He} had left it {P!}"
    "|{A} was ashamed, for {he} had left it {P!}].",
    "forgive": '"[Never mind|It does not matter|Do not worry|All is well], {B!}," '
    "{said:A}.",
    # feelings and thanks
    "thank": '["Thank you, {B!}[||, you are a true friend|, that was kind of you'
    '|, you have made me very happy]," {said:A}'
    "|{A} thanked {@B}[| warmly| with all {his} heart| again and again]"
    "|{A} was so happy that {he} hugged {@B}].",
    "relief": '[{A} was so happy that {he} hugged {@B}|"You have saved me, {B!}!" '
    "{cried:A}].",
    "content": "[It went very well|It was just as {A} had hoped"
    "|{A} had never been so happy].",
    "sit_alone": "{A} went to {P} and sat there alone.",
    "regret": "But {A} [began to feel sorry for {@B}|could not forget {B's} sad face"
    "|soon felt bad about it].",
    "in_trouble": "{A} had to {chore}, and it was too much for one.",
    "help": '[{A} saw it and helped {@B}|"Let me help you, {B!}," {said:A}'
    "|{A} came and helped {@B} until it was done].",
    "reward": "[To thank {@B}, {A} gave {B:him} {O+}|As thanks, {A} gave {@B} {O+}"
    "|In return, {A} gave {@B} {O+}].",
    "comfort": "[To cheer {@B} up, {A} gave {B:him} {O+}"
    "|{A} felt sorry for {@B} and gave {B:him} {O+}].",
    # losing and finding
    "miss": '["Where is my {O!}?" {cried:A}|There {A} saw that {his} {O!} was gone'
    "|{A} reached for {his} {O!}, but it was not there].",
    "remember_place": "[{A} thought hard. Then {he} remembered: {O=} was {P!}"
    "|Then {A} remembered that {O=} was {P!}].",
    "more_careful": "[From then on, {A} was more careful"
    '|"I will never forget you again," {said:A}'
    "|{A} held it tight all the way home].",
    "arrive": "[Just then|Soon|After a while|A little later], {A} came by.",
    "ask_seen": '["Have you seen my {O!}, {B!}?" {asked:A}'
    '|"I have lost my {O!}. Have you seen it, {B!}?" {asked:A}].',
    "have_seen": '["[Yes, it is|I saw it|It must be] {P!}," {replied:A}'
    '|"Well, I think that it may be {P!}, but please check," {replied:A}].',
    "recognize": "{A} knew at once [whose {O!} it was|that it belonged to {@B}].",
    "whose": '[{A} did not know whose it was|"Whose {O!} is this?" {wondered:A}].',
    "produce": '"Yes, {C!} [found it|brought it to me]," {replied:A}.',
    "search_in_vain": "{A} looked [everywhere|high and low], but {he} could not find "
    "it.",
    "ask_why_sad": '"[Why are you so sad|What is wrong|Why are you crying], {B!}?" '
    "{asked:A}.",
    "explain_loss": '["I have lost my {O!}," {replied:A}|{A} told {@B} about {O=}].',
    # hide-and-seek
    "begin_seek": "{A!}, {@B} and {@C} were playing hide-and-seek {P!}. {A!} "
    "[closed {his} eyes and counted|counted slowly] to [ten|twelve].",
    "nobody": "[There was nobody there|{A} looked behind every door, but nobody was "
    "there|It was empty].",
    "find_person": '[There was {@B}|There {A} found {@B} {spot}|"I see you, {B!}!" '
    "{cried:A}].",
    "end_seek": '"[Now it is your turn|You were quick|I found you first], {B!}," '
    "{said:A}, and they all laughed.",
    # swapping
    "offer_swap": '["I will give you my {O!} for your {X!}, {B!}," {said:A}'
    '|"Shall we swap, {B!}? My {O!} for your {X!}," {said:A}].',
    "rather": '"I have no use for {aX!}, {B!}," {replied:A}. "But bring me {aO!}, and '
    'we can swap."',
    "swap": "[So {A} gave {@B} {O=} and got {X=}"
    "|So they swapped: {A} took {X=}, and {B} took {O=}].",
    # errands
    "send": "{A} wanted to send {aO} to {@C} {P!}, but {he} {reason}. "
    '"Will you take it there for me, {B!}?" {he} asked.',
    "not_there": "But {A} [was not there|had just left].",
    "redirect": '"[{C!} went to {P}|You will find {C!} {P!}]," {said:A}.',
    # surprises
    "birthday": "It was the birthday of {@A}, who had always wanted {aO!}.",
    "got_present": "So {A} had bought {aO} for {@B}.",
    "led": "{B} [took|called] {@A} to {P}.",
    "hint": '{A} went to {@B}. "Look around {P!}, {B!}," {he} said. "There is a '
    'surprise for you."',
    "empty": '[{A} looked everywhere, but there was nothing|"There is nothing here, '
    '{B!}," {said:A}].',
    "explain_move": '"Oh, I took it to {P}," {said:A}. "I did not know that it was a '
    'present."',
    # picnics
    "invite": "{A} had invited [some friends|three friends] to a picnic {P!}.",
    "good_time": "They [ate and laughed and sang|talked and sang|played games] until "
    "[evening|the sun went down].",
    "leave_at_picnic": "But {A} went home without {his} {O!}.",
    "admire": '"What a fine {O!}, {B!}!" {said:A}. "I wish I had one like it."',
    # races
    "offer_prize": "There was to be a race to {P}, and {@A} had {aO} for the winner.",
    "enter": "{A} and {@B} wanted to win it.",
    "lose_race": "{A} came in [last|a little later].",
    "disappointed": "{A} was [so sad that {he} began to cry|close to tears].",
    "congratulate": '["You are faster than the wind, {B!}," {said:A}'
    '|"Next time I will beat you, {B!}," {said:A}|{A} was the first to shake '
    "{B's} hand].",
    # thieves
    "snatch": "[Suddenly|Just then|All at once], a {note} snatched {O=} from "
    "{A's} hand and {flew} to {P}.",
    "blow": "[Suddenly|Just then|All at once], the wind took {O=} from {A's} hand and "
    "carried it to {P}.",
    "scold": '"[You silly {note}|You bad {note}]!" {cried:A}.',
    "hold_on": "From then on, {A} held it tight.",
    "caught": "{A} was there and had just found {O=} {spot}.",
    "saw_thief": '"A {note} dropped it in front of me," {replied:A}.',
    "saw_wind": '"The wind blew it right to me," {replied:A}.',
    # finding an owner
    "is_it_yours": '"Is this your {O!}, {B!}?" {asked:A}.',
    "point_to": '"No, but {C+} has lost one," {replied:A}. "You will find {C:him} '
    '{P!}."',
    "it_is_mine": '"Yes! I have looked for it everywhere," {cried:A}.',
    # counting and money
    "has_none": '["I have no {items}, {B!}," {said:A}'
    "|{A} had found no {items} at all].",
    "plan": "[{A} wanted to {text}, and for that {he} needed {items}"
    '|"I need {items} to {text}," {said:A}].',
    "enough": "[{A} [|still |now ]had enough to {text}"
    "|There were [just|still] enough to {text}].",
    "given_more": "[{B} had too many and gave {@A} {num} more"
    "|{A} got {num} more from {@B}, who had too many].",
    "ask_price": '"How much is your {O!}, {B!}?" {asked:A}.',
    "price": '"It costs {n}, {B!}," {replied:A}.',
    "no_money": "But {A} had no money, so {he} [looked for work|went to look for work]"
    ".",
    "work": "{A} helped {@B} to {chore}.",
    "paid": "[{B} paid {@A} {n}|For this, {A} got {n} from {@B}].",
    # paying a debt of thanks
    "visit": "{A} came to see {@B}.",
    "mislaid": '"I have lost my {O!} {P!}," {said:A} sadly.',
    "remember_kindness": "{A} had not forgotten how kind {B} had been.",
    "even": '"[Now we are even|One good turn deserves another], {B!}," {said:A}.',
    # the end
    "end_glad": "[{A} was [glad|proud|in good spirits] that evening"
    "|That night, {A} slept well"
    "|{A} went home with a smile|It had been a good day for {@A}].",
    "end_friends": "[From that day on, {A} and {B!} were the best of friends"
    "|{A} never forgot {B's} kindness"
    "|That evening, {A} and {B!} had supper together].",
}

GAPS = {
    "soon": "[Soon|Soon after that|A little later|Not long after that], ",
    "later": "[Later that day|In the afternoon|Some hours later], ",
    "evening": "[In the evening|When the sun went down|Before supper], ",
    "day": "[The next day|The next morning|On the following day], ",
    "week": "[A week later|Some days later|The week after], ",
}
