//! Marks in another order, vowel letters and Han variants: one name, or refused.
//!
//! Words of every script with marks are accepted as they are written. The generated test permutes their marks, and those of the
//! words with one mark more.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use watchword::domain::Username;

/// Common given names and words with conjuncts, by script, separated by blanks.
#[rustfmt::skip]
const WORDS: [(&str, &str); 14] = [
    ("Devanagari", "राम सीता कृष्ण लक्ष्मी प्रिया श्रीकांत अंजलि विद्या हिंदी ज्ञानेंद्र संगीता ऋषि ओंकार काँग्रेस दुःख पढ़ाई फ़िरोज़ वैष्णवी और ऐश्वर्या"),
    ("Bengali", "রবীন্দ্র বাংলা শ্রাবন্তী কৃষ্ণা চাঁদ দুঃখ অ্যানা সৌরভ জ্যোতি পূর্ণিমা ঐশী ইন্দ্রাণী বৈশাখী মৌসুমী প্রিয়াঙ্কা তাঁরা হ্যাঁ কোয়েল"),
    ("Gurmukhi", "ਸਿੰਘ ਗੁਰਪ੍ਰੀਤ ਪੰਜਾਬ ਅੰਮ੍ਰਿਤ ਕੁਲਵਿੰਦਰ ਜਸਪ੍ਰੀਤ ਇੱਕ ਉੱਤਮ ਬੱਚਾ ਸ਼ੇਰ ਖ਼ੁਸ਼ੀ ਮਾਂ ਔਰਤ ਓਅੰਕਾਰ ਐਤਵਾਰ ਸੋਹਣੀ ਆਂਚਲ"),
    ("Gujarati", "ગુજરાત કૃષ્ણ પ્રિયા શ્રેયા અંજલિ હાર્દિક નરેન્દ્ર મહેતા જ્યોતિ વિદ્યા ઐશ્વર્યા ઓમકાર દુઃખ લક્ષ્મી સંગીતા ચાંદની હેમાંગી ડૉક્ટર"),
    ("Oriya", "ଓଡ଼ିଆ ଜଗନ୍ନାଥ କୃଷ୍ଣ ଲକ୍ଷ୍ମୀ ପ୍ରିୟା ସଂଗୀତା ଅଞ୍ଜଳି ଦୁଃଖ ଚାନ୍ଦିନୀ ଐଶ୍ୱର୍ଯ୍ୟା ନରେନ୍ଦ୍ର ସୌମ୍ୟା ଜ୍ୟୋତି ବିଦ୍ୟା ଗୌରୀ ହିଂସା ଗାଁ"),
    ("Tamil", "தமிழ் முருகன் லட்சுமி கிருஷ்ணன் பொன்னி கோபால் சௌந்தர்யா ஐஸ்வர்யா ஔவை ஓவியா ஸ்ரீதேவி மீனாட்சி கௌதம் செல்வி வெற்றி கார்த்திக் பிரியா"),
    ("Telugu", "తెలుగు కృష్ణ లక్ష్మి శ్రీనివాస్ ప్రియ రామారావు వెంకటేశ్వర్లు సంగీత జ్యోతి ఐశ్వర్య ఓంకార్ దుఃఖం విద్య సౌమ్య మహేష్ కోటేశ్వరరావు పవన్"),
    ("Kannada", "ಕನ್ನಡ ಕೃಷ್ಣ ಲಕ್ಷ್ಮಿ ಶ್ರೀನಿವಾಸ ಪ್ರಿಯಾ ಸಂಗೀತಾ ಜ್ಯೋತಿ ಐಶ್ವರ್ಯ ಓಂಕಾರ ದುಃಖ ವಿದ್ಯಾ ಸೌಮ್ಯ ಮಹೇಶ್ ರಾಜ್ಕುಮಾರ್ ಬೆಂಗಳೂರು ಕೋಟೇಶ್ವರ ಪುನೀತ್"),
    ("Malayalam", "മലയാളം കൃഷ്ണൻ ലക്ഷ്മി ശ്രീകുമാർ പ്രിയ എന്റെ അവന്റെ ജ്യോതി ഐശ്വര്യ ഓണം ദുഃഖം വിദ്യ സൗമ്യ മമ്മൂട്ടി മോഹൻലാൽ അത് കാട് ഇന്നു് കോഴിക്കോട്"),
    ("Sinhala", "සිංහල කුමාර සමන්ත දිනේෂ් නුවන් චමින්ද ලක්ෂ්මන් පෙරේරා ප්රියා කෝකිලා ඇනා ආයේෂා ඉෂාරා මෛත්රී සෞම්යා දුඃඛ බෝධි ශෝභා"),
    ("Khmer", "ខ្មែរ សុខា ចាន់ណា ស្រីមុំ វណ្ណា សម្បត្តិ កាំ ភ្នំពេញ ស្ត្រី ចន្ទ្រា ធីតា កញ្ញា បុប្ផា រតនៈ ពិសិដ្ឋ ម៉ាលី ស៊ីនួន កណ្តាល សោភា ហ៊ុនសែន"),
    ("Burmese", "အောင်ဆန်း ကျော် ယောက်ျား ကျွန်ုပ် မင်္ဂလာ ခင်ခင် သန္တာ ဉာဏ် ဥမ္မာ ဦးနု ကို စိုး မြင့် နှင်း လှိုင် သိန်းစိန် ဇော် ပဉ္စ ဩဂုတ် ဈေး ကြွယ် ရွှေ ဝေဖြိုး"),
    ("Thai", "กิ้ง น้อง สมชาย มานี ปิติ สุนีย์ พิมพ์ กิตติ์ วันดี ชื่น ศรีสุดา ปุ้ย เปิ้ล หนึ่ง สิทธิ์ บุญมี ก็ ผู้ใหญ่ รัตน์"),
    ("Lao", "ລາວ ສົມ ບຸນມີ ກິ່ງ ນ້ອຍ ສີສຸກ ພູວົງ ຈັນ ມາລີ ດາວ ຕຸ້ຍ ຫຼ້າ ທິດ ແກ້ວ ຊື່ ປີ້ ຜູ້ ເງິນ ເກົ່າ"),
];

fn accepted(raw: &str) -> Option<String> {
    Username::parse(raw).ok().map(|name| name.as_str().to_owned())
}

/// A letter, and its marks in units that have one place: a Khmer or Burmese subscript is a sign and a letter.
type Syllable = (String, Vec<String>);

fn syllables(word: &str) -> Vec<Syllable> {
    let chars: Vec<char> = word.nfd().collect();
    let (mut syllables, mut at): (Vec<Syllable>, usize) = (Vec::new(), 0);
    while at < chars.len() {
        let is_joint = |at: usize| chars.get(at + 1).is_some_and(|next| !is_combining_mark(*next));
        // The kinzi, and a virama that joins the next letter, stay in place.
        let is_kinzi = chars[at..].starts_with(&['\u{1004}', '\u{103A}', '\u{1039}']);
        let is_virama =
            !is_kinzi && u32::from(chars[at]) % 0x80 == 0x4D && (0x900..0xE00).contains(&u32::from(chars[at]));
        if let (true, Some(last)) = (is_combining_mark(chars[at]), syllables.last_mut()) {
            let length = if matches!(chars[at], '\u{17D2}' | '\u{1039}') { 2 } else { 1 };
            let unit: String = chars[at..at + length].iter().collect();
            at += length;
            if is_virama && is_joint(at - 1) { syllables.push((unit, Vec::new())) } else { last.1.push(unit) }
        } else {
            let length = if is_kinzi { 3 } else { 1 };
            syllables.push((chars[at..at + length].iter().collect(), Vec::new()));
            at += length;
        }
    }
    syllables
}

fn permutations(marks: &[String]) -> Vec<String> {
    if marks.is_empty() {
        return vec![String::new()];
    }
    let mut all = Vec::new();
    for (at, first) in marks.iter().enumerate() {
        let mut rest = marks.to_vec();
        rest.remove(at);
        all.extend(permutations(&rest).into_iter().map(|rest| format!("{first}{rest}")));
    }
    all
}

/// Two to four marks with at most one subscript letter: the order of two shows, except that of a Khmer subscript ro.
fn is_tried(marks: &[String]) -> bool {
    let subscripts = marks.iter().filter(|mark| mark.chars().count() > 1 && !mark.ends_with('\u{179A}'));
    (2..=4).contains(&marks.len()) && subscripts.count() < 2
}

/// The canonical forms of the accepted orders of the marks on one letter of a word.
fn forms(syllables: &[Syllable], at: usize, marks: &[String]) -> (usize, BTreeSet<String>) {
    let text = |part: &[Syllable]| {
        part.iter().map(|(letter, marks)| format!("{letter}{}", marks.concat())).collect::<String>()
    };
    let (before, letter, after) = (text(&syllables[..at]), &syllables[at].0, text(&syllables[at + 1..]));
    let orders = permutations(marks);
    let forms = orders.iter().filter_map(|marks| accepted(&format!("{before}{letter}{marks}{after}"))).collect();
    (orders.len(), forms)
}

#[test]
fn words_of_every_script_with_marks_are_accepted_as_they_are_written() {
    for (script, words) in WORDS {
        assert!(words.split(' ').count() >= 15, "{script}");
        for word in words.split(' ') {
            assert_eq!(Username::parse(word).map(|name| name.as_str().to_owned()), Ok(word.to_owned()), "{script}");
        }
    }
}

#[test]
fn orders_of_the_marks_on_a_letter_are_one_name() {
    let (mut orders, mut found) = (0, Vec::new());
    for (script, words) in WORDS {
        let words: Vec<_> = words.split(' ').map(syllables).collect();
        let marks: BTreeSet<&String> = words.iter().flatten().flat_map(|(_, marks)| marks).collect();
        for word in &words {
            for (at, (letter, own)) in word.iter().enumerate() {
                // A stacker below a nga is drawn in another way than the kinzi.
                let marks = marks.iter().filter(|mark| letter != "\u{1004}" || mark.chars().count() == 1);
                let more = marks.map(|mark| [own.as_slice(), &[(*mark).clone()]].concat());
                for marks in more.chain([own.clone()]).filter(|marks| is_tried(marks)) {
                    let (tried, forms) = forms(word, at, &marks);
                    orders += tried;
                    if forms.len() > 1 {
                        found.push(format!(
                            "{script}: {}",
                            forms.iter().map(|form| form.escape_unicode().to_string()).collect::<Vec<_>>().join(" ")
                        ));
                    }
                    let canonical = forms.iter().filter(|form| accepted(form).as_ref() != Some(form));
                    assert_eq!(canonical.count(), 0, "a form of {forms:?} is not stable");
                }
            }
        }
    }
    assert!(orders > 10_000, "{orders}");
    assert!(found.is_empty(), "{} letters have two forms: {:#?}", found.len(), &found[..found.len().min(40)]);
}

#[test]
fn spellings_that_are_drawn_alike_are_one_name() {
    for (one, other) in [
        // Devanagari: anusvara before the vowel sign, vowel letters with a sign, two vowel signs, candra and dot.
        ("\u{915}\u{902}\u{93e}", "\u{915}\u{93e}\u{902}"),
        ("\u{915}\u{93e}\u{947}", "\u{915}\u{94b}"),
        ("\u{905}\u{94b}", "\u{913}"),
        ("\u{905}\u{902}\u{94b}", "\u{913}\u{902}"),
        ("\u{90f}\u{947}", "\u{910}"),
        ("\u{930}\u{94d}\u{907}", "\u{908}"),
        ("\u{92c}\u{945}\u{902}\u{915}", "\u{92c}\u{901}\u{915}"),
        ("\u{915}\u{949}\u{902}", "\u{915}\u{93e}\u{901}"),
        ("\u{921}\u{940}\u{93c}", "\u{921}\u{93c}\u{940}"),
        // Bengali, Gurmukhi, Gujarati, Oriya.
        ("\u{985}\u{9be}", "\u{986}"),
        ("\u{9ac}\u{9bc}\u{9ae}", "\u{9b0}\u{9ae}"),
        ("\u{995}\u{9be}\u{9c7}", "\u{995}\u{9cb}"),
        ("\u{a72}\u{a3f}\u{a71}\u{a15}", "\u{a07}\u{a71}\u{a15}"),
        ("\u{a38}\u{a70}\u{a3f}", "\u{a38}\u{a3f}\u{a70}"),
        ("\u{a85}\u{abe}\u{ac7}", "\u{a93}"),
        ("\u{a95}\u{abe}\u{ac7}", "\u{a95}\u{acb}"),
        ("\u{b13}\u{b57}", "\u{b14}"),
        // Telugu, Kannada, Malayalam, Sinhala.
        ("\u{c12}\u{c4c}\u{c15}", "\u{c14}\u{c15}"),
        ("\u{c92}\u{ccc}\u{c95}", "\u{c94}\u{c95}"),
        ("\u{d07}\u{d57}", "\u{d08}"),
        ("\u{d0e}\u{d7b}\u{d31}\u{d46}", "\u{d0e}\u{d28}\u{d4d}\u{d31}\u{d46}"),
        ("\u{d85}\u{dcf}", "\u{d86}"),
        // Thai and Lao.
        ("\u{e01}\u{e49}\u{e34}\u{e07}", "\u{e01}\u{e34}\u{e49}\u{e07}"),
        ("\u{e18}\u{e4c}\u{e34}", "\u{e18}\u{e34}\u{e4c}"),
        ("\u{e81}\u{ec9}\u{eb4}", "\u{e81}\u{eb4}\u{ec9}"),
        // Khmer.
        ("\u{1780}\u{17c6}\u{17b6}", "\u{1780}\u{17b6}\u{17c6}"),
        ("\u{179f}\u{17d2}\u{179a}\u{17d2}\u{178f}\u{17b8}", "\u{179f}\u{17d2}\u{178f}\u{17d2}\u{179a}\u{17b8}"),
        ("\u{1780}\u{178e}\u{17d2}\u{178a}\u{17b6}", "\u{1780}\u{178e}\u{17d2}\u{178f}\u{17b6}"),
        ("\u{1780}\u{17b6}\u{17c1}", "\u{1780}\u{17c4}"),
        // Burmese.
        ("\u{1000}\u{102f}\u{102d}", "\u{1000}\u{102d}\u{102f}"),
        ("\u{1005}\u{103b}\u{1031}\u{1038}", "\u{1008}\u{1031}\u{1038}"),
        ("\u{1025}\u{102c}\u{100f}\u{103a}", "\u{1009}\u{102c}\u{100f}\u{103a}"),
        ("\u{1009}\u{102e}\u{1038}", "\u{1026}\u{1038}"),
        ("\u{1029}\u{1031}\u{102c}\u{103a}", "\u{102a}"),
        ("\u{101e}\u{103c}\u{1031}\u{102c}\u{103a}", "\u{102a}"),
        ("\u{1000}\u{103b}\u{103a}\u{102c}\u{1038}", "\u{1000}\u{103a}\u{103b}\u{102c}\u{1038}"),
        ("\u{1000}\u{103a}\u{103b}\u{1031}\u{102c}", "\u{1000}\u{103b}\u{1031}\u{102c}\u{103a}"),
        // Kana and Cyrillic.
        ("\u{308a}\u{30b9}", "\u{30ea}\u{30b9}"),
        ("\u{3055}\u{30ea}", "\u{3055}\u{308a}"),
        ("\u{30ea}\u{30fc}", "\u{308a}\u{4e00}"),
        ("\u{43a}\u{327}\u{434}", "\u{49b}\u{434}"),
        ("\u{43d}\u{326}\u{434}", "\u{4a3}\u{434}"),
        ("\u{4c4}\u{434}", "\u{49b}\u{434}"),
    ] {
        let forms = (accepted(one), accepted(other));
        assert!(forms.0.is_some() && forms.0 == forms.1, "{one:?} and {other:?}: {forms:?}");
    }
    for variants in
        "内內 黄黃 青靑 高髙 產産 真眞 別别 呂吕 户戶戸 為爲 說説 值値 教敎 清淸 黑黒 顏顔 綠緑 绝絶絕 晚晩 增増"
            .split(' ')
    {
        let mut chars = variants.chars().filter(|c| *c != '绝');
        let first = chars.next().and_then(|c| accepted(&c.to_string()));
        for c in chars {
            assert_eq!(accepted(&c.to_string()), first, "{variants}");
        }
    }
    for (one, other) in
        [("士", "土"), ("未", "末"), ("己", "已"), ("国", "國"), ("学", "學"), ("来", "來"), ("大", "太")]
    {
        assert_ne!(accepted(one), accepted(other), "readers tell them apart");
    }
}

#[test]
fn signs_that_have_no_right_spelling_are_refused_with_what_to_type() {
    for (name, expected) in [
        ("\u{905}\u{93f}", "type the vowel letter"),
        ("\u{915}\u{93f}\u{940}", "type the one sign"),
        ("\u{995}\u{9be}\u{9bf}", "type the one sign"),
        ("\u{dc3}\u{dcf}\u{dd2}", "type the one sign"),
        ("\u{915}\u{901}\u{902}", "type one of them"),
        ("\u{915}\u{94d}\u{902}", "type one of them"),
        ("\u{915}\u{93e}\u{94d}", "type one of them"),
        ("\u{1780}\u{17b6}\u{17b7}", "type the one sign"),
        ("\u{1780}\u{17d2}", "type the letter"),
        ("\u{1000}\u{1039}", "type the letter"),
        ("\u{e01}\u{e34}\u{e4d}", "type the one sign"),
        ("\u{e81}\u{ec8}\u{ec9}", "type one of them"),
        ("\u{1000}\u{102d}\u{102e}", "type the one sign"),
        ("\u{1023}\u{102d}", "type the vowel letter"),
        ("\u{43e}\u{327}\u{434}", "letter with a descender"),
        ("\u{915}:", "U+003A"),
        ("\u{1780}:", "U+003A"),
        ("\u{1000}:", "U+003A"),
    ] {
        let violation = Username::parse(name).expect_err(name);
        assert_eq!(violation.reason.name(), "FORBIDDEN_CHARACTER", "{name:?}");
        assert!(violation.description.contains(expected), "{name:?}: {}", violation.description);
    }
    assert!(accepted("\u{e01}:").is_some(), "Thai has no sign like a colon");
}
