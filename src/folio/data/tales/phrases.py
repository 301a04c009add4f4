"""How each event may be told.

`DEEDS` are verb phrases: the teller joins them ("Mara walked to the mill and gave
Ben the kite", "After finding the ring, ..."). `SENTENCES` stand by themselves.
Marks, slots and roles are explained in `grammar.py` and `telling.py`.
"""

from __future__ import annotations

# --------------------------------------------------- deeds: subject to be supplied

DEEDS: dict[str, str] = {
    "go": "[[*walk|*walk|*go|*go|*hurry|*run] to {P}|*set out for {P}"
    "|*make {his} way to {P}|*walk [slowly|quickly|straight] to {P}]",
    "go_back": "[[*walk|*go|*hurry|*run] back to {P}|*return to {P}]",
    "come_by": "*come to {P}",
    "chase": "*run after the {note} to {P}",
    "rest": "*rest for a while {P!}",
    "give": "[*give {O} to {@B}|*give {@B} {O=}|*hand {O} to {@B}|*hand {@B} {O=}]",
    "lend": "[*give {O} to {@B}|*lend {@B} {O=}|*hand {O} to {@B}|*lend {O} to {@B}]",
    "give_back": "[*give {O} back to {@B}|*bring {O} back to {@B}|*return {O} to {@B}"
    "|*give {@B} {O=} back]",
    "give_after_all": "*give {O} to {@B} after all",
    "entrust": "[*give {O} to {@B}|*hand {@B} {O=}|*put {O} into {B:his} bag]",
    "deliver": "[*give {O} to {@B}|*hand {@B} {O=}|*hand {O} to {@B}]",
    "hand_in": "[*leave {O} with {@B}|*give {O} to {@B} to keep]",
    "sell": "[*hand {O} to {@B}|*hand {@B} {O=}|*give {@B} {O=}]",
    "leave": "[*leave {O} {atP}|*put {O} down {atP}|*forget {O} {atP}]",
    "forget": "[*leave {O} {atP} by mistake|*forget {O} {atP}|*leave {O} {spot}]",
    "hide": "[*hide {O} {spot}|*hide {O} {atP}]",
    "put_away": "[*put {O} {spot}|*leave {O} {atP}]",
    "find": "[*find {O} {spot}|*find {O} {atP}|*see {O} {spot}]",
    "discover": "[*find {O} {spot}|*pick {O} up|*see {O} {spot}]",
    "stumble": "[*find {aO} {spot}|*see {aO} {spot}|*pick up {aO} {spot}]",
    "use": "{deed}",
    "gain": "[*pick|*gather|*collect|*get] {n}",
    "share": "[*give {n} to {@B}|*give {@B} {n}|*give {@B} {num}"
    "|*share {num} of {his} {items} with {@B}]",
    "drop_some": "[*lose {num} of {his} {items} on the way|*drop {num} of {his} {items}"
    "|*lose {n}]",
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
    "open_month": "[One day|One morning|One afternoon|Early one morning] in {month}, "
    "{weather}.",
    "open_weather": "{weather}.",
    "hero": "[{A} was {a_trait} {person}|There was once {a_trait} {person} called {A!}"
    "|{A} was {a_trait} {person} who lived [near the church|by the road|by the sea"
    "|at the end of the road|in a small house]"
    "|[{A}|Everyone knew that {A}] was {a_trait} {person}].",
    # having and wanting
    "own": "[{A} [had|owned] {aO}|{A} had {aO} in {his} bag].",
    "treasure": "[{A} had {aO} that {he} loved|{A} owned {aO} and took it everywhere"
    "|{A}'s best treasure was {aO}"
    "|{A} had {aO}, a present from {his} [mother|father|grandmother]].",
    "want": "[{A} [wanted|needed|wished for] {aO!} to {goal}"
    "|{A} wanted to {goal_with}, but {he} {lack}"
    "|More than anything, {A} wanted {aO!} to {goal}"
    '|"I [need|wish I had] {aO!} to {goal}," {said:A}'
    "|For a long time, {A} had wanted {aO!} to {goal}].",
    "has_one": "[{A} had {aO} {P!}|Everyone knew that {A} had {aO} {P!}"
    "|{A}, who was {P!} that day, had {aO}|Luckily, {A} had {aO} {P!}].",
    "sells": "[{A} had {aO} for sale {P!}|{A} was selling {aO} {P!}].",
    # asking and answering
    "ask_loan": '["[May|Can|Could] I borrow your {O!}, {B!}?" {asked:A}'
    '|"[Will|Could] you lend me your {O!}, {B!}?" {asked:A}'
    "|{A} asked {@B} for {O}|{A} asked {@B} to lend {him} {O=}].",
    "agree_loan": '["[Of course|Yes|With pleasure|Gladly]," {said:A}. "But '
    '[please |]bring it back [by evening|tonight|when you are done]."'
    '|"[Of course|Yes], {B!}, but only until tonight," {said:A}.'
    "|{A} agreed at once.]",
    "refuse": '["[No|I am sorry|Not today], {B!}, I need it myself," {said:A}'
    '|"[No|Never]! It is mine," {said:A}'
    "|{A} [shook {his} head|did not want to part with it|said no]].",
    "sad_refused": "{A} [was sad|was sad and went away|went away with a heavy heart"
    "|was close to tears].",
    "agree": '["[Of course|Yes|Gladly|Why not|With pleasure], {B!}," {said:A}'
    "|{A} [agreed at once|nodded|smiled and said yes|was happy to agree]].",
    "condition": '["But if you bring me {aO!}, {B!}, you may have {X=}," {said:A}'
    '|"Bring me {aO!}, {B!}, and you shall have my {X!}," {said:A}].',
    "ask_gift": '["{C!} needs {aO!}. May I have yours, {B!}?" {asked:A}'
    "|{A} told {@B} that {C!} needed {aO!}].",
    "keep_word": "{A} kept {his} word and gave {@B} {O=}.",
    "offer_back": '"Here is your {O!}, {B!}," {said:A}. "It was a great help."',
    "keep_it": '"[You may keep it|Keep it|It is yours now], {B!}," {said:A}. "'
    '[I have no use for it|You need it more than I do]."',
    "ask_where": '"[Where is {O=}|What have you done with {O=}|Did you not bring {O=}]'
    ', {B!}?" {asked:A}.',
    "ashamed": '["Oh no! I left it {P!}," {cried:A}'
    "|{A} turned red. {He} had left it {P!}"
    "|{A} was ashamed, for {he} had left it {P!}].",
    "forgive": '"[Never mind|It does not matter|Do not worry|All is well], {B!}," '
    "{said:A}.",
    # feelings and thanks
    "thank": '["Thank you, {B!}[|, you are a true friend|, that was kind of you'
    '|, you have made me very happy]," {said:A}'
    "|{A} thanked {@B} [|warmly|with all {his} heart|again and again]"
    "|{A} was so happy that {he} hugged {@B}].",
    "relief": '[{A} was so happy that {he} hugged {@B}|"You have saved me, {B!}!" '
    "{cried:A}].",
    "sit_alone": "{A} went to {P} and sat there alone.",
    "regret": "But {A} [began to feel sorry for {@B}|could not forget {@B}"
    "|felt bad about it].",
    "in_trouble": "{A} had to {chore}, and it was too much for one.",
    "help": '[{A} saw it and helped {@B}|"Let me help you, {B!}," {said:A}'
    "|{A} came and helped {@B} until it was done].",
    "reward": "[To thank {@B}, {A} gave {B:him} {O+}|As thanks, {A} gave {@B} {O+}"
    "|In return, {A} gave {@B} {O+}].",
    "comfort": "[To cheer {@B} up, {A} gave {B:him} {O+}"
    "|{A} felt sorry for {@B} and gave {B:him} {O+}].",
    # losing and finding
    "miss": '["Where is my {O!}?" {cried:A}|There {A} saw that {his} {O!} was gone'
    "|{A} reached into {his} bag, but {O=} was not there].",
    "remember_place": "[{A} thought hard. Then {he} remembered: {O=} was {P!}"
    "|Then {A} remembered that {O=} was {P!}].",
    "more_careful": "[From then on, {A} was more careful"
    '|"I will never forget you again," {said:A}'
    "|{A} held it tight all the way home].",
    "arrive": "[Just then|Soon|After a while|A little later], {A} came by.",
    "ask_seen": '"[Have you seen my {O!}|I have lost my {O!}. Have you seen it], {B!}?" '
    "{asked:A}.",
    "have_seen": '"[Yes, it is|I saw it|It must be] {P!}," {said:A}.',
    "recognize": "{A} knew at once [whose {O!} it was|that it belonged to {@B}].",
    "whose": '[{A} did not know whose it was|"Whose {O!} is this?" {thought:A}].',
    "produce": '"Yes, {C!} [found it|brought it to me]," {said:A}, and {he} gave {@B} '
    "{O=}.",
    "search_in_vain": "{A} looked [everywhere|high and low], but {he} could not find "
    "it.",
    "ask_why_sad": '"[Why are you so sad|What is wrong|Why are you crying], {B!}?" '
    "{asked:A}.",
    "explain_loss": '["I have lost my {O!}," {said:A}|{A} told {@B} about {O=}].',
    # swapping
    "offer_swap": '["I will give you my {O!} for your {X!}, {B!}," {said:A}'
    '|"Shall we swap, {B!}? My {O!} for your {X!}," {said:A}'
    "|{A} offered {@B} {O=} for {X=}].",
    "rather": '"I have no use for {aX!}, {B!}," {said:A}. "But bring me {aO!}, and we '
    'can swap."',
    "swap": "[So {A} gave {@B} {O=} and got {X=}"
    "|So they swapped: {A} took {X=}, and {B} took {O=}"
    "|{A} gave {@B} {O=} for {X=}].",
    # errands
    "send": "{A} wanted to send {aO} to {@C} {P!}, but {he} {reason}. "
    '"Will you take it there for me, {B!}?" {he} asked.',
    "not_there": "But {A} [was not there|had just left].",
    "redirect": '"[{C!} went to {P}|You will find {C!} {P!}]," {said:A}.',
    # surprises
    "birthday": "It was the birthday of {@A}, who had always wanted {aO!}.",
    "got_present": "So {A} had bought {aO} for {@B}.",
    "call_friend": '"Come to {P}, {B!}, there is something for you," {said:A}.',
    "hint": '"Look around {P!}, {B!}," {said:A}. "There is a surprise for you."',
    "empty": '[{A} looked everywhere, but there was nothing|"There is nothing here, '
    '{B!}," {said:A}].',
    "explain_move": '"Oh, I took it to {P}," {said:A}. "I did not know that it was a '
    'present."',
    # thieves
    "snatch": "[Suddenly|Just then|All at once], a {note} snatched {O=} from "
    "{A's} hand and {flew} to {P}.",
    "scold": '"[You silly {note}|You bad {note}]!" {cried:A}.',
    "caught": "{A} was there and had just found {O=} {spot}.",
    "produce_thief": '"A {note} dropped it in front of me," {said:A}, and {he} gave '
    "{@B} {O=}.",
    # finding an owner
    "is_it_yours": '"Is this your {O!}, {B!}?" {asked:A}.',
    "point_to": '"No, but {C+} has lost one," {said:A}. "You will find {C:him} {P!}."',
    "notice": "Then {A} remembered that {C} {P!} once had such {aO!}.",
    "it_is_mine": '"Yes! I have looked for it everywhere," {cried:A}.',
    # counting and money
    "has_none": '["I have no {items}, {B!}," {said:A}'
    "|{A} had found no {items} at all].",
    "given_more": "[{B} gave {@A} {num} more|{A} got {num} more from {@B}].",
    "price": '"[It|This {O!}] costs {n}, {B!}," {said:A}.',
    "no_money": "[{A} had no money|{A} did not have a single coin].",
    "work": "{A} helped {@B} to {chore}.",
    "paid": "[{B} paid {@A} {n}|For this, {A} got {n} from {@B}].",
    # paying a debt of thanks
    "mislaid": "{A} had lost {aO}.",
    "remember_kindness": "{A} had not forgotten how {B} had helped {him}.",
    "even": '"[Now we are even|One good turn deserves another], {B!}," {said:A}.',
    # the end
    "end_glad": "[{A} was [happy|glad|proud] that evening|That night, {A} slept well"
    "|{A} went home with a smile|What a day it had been for {@A}].",
    "end_friends": "[From that day on, {A} and {B} were the best of friends"
    "|{A} never forgot what {B} had done for {him}"
    "|That evening, {A} and {B} had supper together].",
}

GAPS = {
    "": "",
    "soon": "[Soon|Before long|A little later], ",
    "later": "[Later that day|In the afternoon|Some hours later], ",
    "evening": "[In the evening|When the sun went down|Before supper], ",
    "day": "[The next day|The next morning|On the following day], ",
    "week": "[A week later|Some days later|The week after], ",
}
