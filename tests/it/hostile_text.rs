//! T17: names, passwords and data that would break out of JSON, keys or protocols: they are stored and read back as they
//! are, one user under one key, and no other key is touched.

use std::collections::BTreeSet;

use watchword::domain::{Claim, User, UserData, Username};

use crate::{
    stores::user,
    support::{App, Door, Place, StoreKind, disk::Chance, is_full},
};

/// Parts that mean something to somebody.
const PARTS: [&str; 26] = [
    "\"",
    "\\",
    "\",\"admin\":true",
    "}",
    "{",
    "{tag}",
    "*",
    "?",
    "[a-z]",
    "auth:",
    "watchword:user:ada",
    ":",
    "\r\nDEL x\r\n",
    "$-1\r\n",
    "\0",
    "\u{1b}[31m",
    "\u{2028}",
    "\u{feff}",
    "日本",
    "🦀",
    "%s%n",
    "$(id)",
    "'; --",
    "<script>",
    "\u{202e}",
    "é",
];

fn text(chance: &mut Chance, length: usize) -> String {
    (0..1 + chance.below(length)).map(|_| PARTS[chance.below(PARTS.len())]).collect()
}

/// A name as hostile as names can be: printable ASCII.
fn hostile_name(chance: &mut Chance) -> String {
    (0..1 + chance.below(60)).map(|_| char::from(0x21 + u8::try_from(chance.below(0x5e)).unwrap())).collect()
}

/// At the store, where each is quick. `WATCHWORD_TEST_FULL=1` takes the 20 000 that T17 asks for.
#[tokio::test]
async fn whatever_stands_in_names_and_data_is_read_back_as_it_is() {
    let count = if is_full() { 20_000 } else { 2_000 };
    for kind in StoreKind::ALL {
        let place = Place::new(kind);
        let store = place.open().await;
        let (mut chance, mut names) = (Chance(17), BTreeSet::new());
        for _ in 0..count {
            let name = if chance.below(2) == 0 { hostile_name(&mut chance) } else { text(&mut chance, 6) };
            // What is no name is refused long before a store.
            let Ok(username) = Username::parse(&name) else { continue };
            if !names.insert(username.as_str().to_owned()) {
                continue;
            }
            let data = UserData::parse(text(&mut chance, 40), 8_192).unwrap();
            let wanted = User { username: username.clone(), data, ..user("template") };
            assert!(matches!(store.claim(&wanted).await.unwrap(), Claim::Claimed), "{name:?}");
            assert_eq!(store.user(&username).await.unwrap().unwrap().value, wanted, "{name:?}");
        }
        assert!(names.len() > count / 3, "only {} names were fit", names.len());
        if kind == StoreKind::Redis {
            let mut keys: Vec<String> = place.redis().ask(&["KEYS", "*"]);
            keys.retain(|key| key != "watchword:store");
            let (users, ids): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.starts_with("watchword:user:"));
            let kept: BTreeSet<_> = users.iter().map(|key| key["watchword:user:".len()..].to_owned()).collect();
            assert_eq!(kept, names, "exactly the expected keys");
            assert!(ids.len() == names.len() && ids.iter().all(|key| key.starts_with("watchword:id:")));
        }
        store.close().await;
    }
}

/// Through the doors: what Redis sees of each call touches the keys of that user alone.
#[tokio::test]
async fn a_call_touches_the_keys_of_one_user_alone() {
    let place = Place::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    place.redis().ask::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    place.redis().ask::<()>(&["CONFIG", "SET", "slowlog-max-len", "100000"]);
    let mut chance = Chance(71);
    for number in 0..40 {
        let (name, password) = (hostile_name(&mut chance), format!("{}{number}long enough", text(&mut chance, 9)));
        place.redis().ask::<()>(&["SLOWLOG", "RESET"]);
        for door in Door::ALL {
            let registered = door.register(&app, &name, &password, "x").await;
            assert!(registered.outcome() == "ok" || registered.is_taken(), "{name:?}: {registered:?}");
            assert_eq!(door.login(&app, &name, &password).await.data(), "x", "{name:?} {password:?}");
            assert!(door.login(&app, &name, &format!("{password}!")).await.is_wrong_credentials());
        }
        let own = Username::parse(&name).unwrap().as_str().to_owned();
        let user: serde_json::Value = serde_json::from_str(&place.kept(&own)).unwrap();
        let id_key = format!("watchword:id:{}", user["id"].as_str().unwrap());
        let sessions_key = format!("watchword:sessions:{}", user["id"].as_str().unwrap());
        let mut seen = 0;
        for command in slow_log(&place) {
            // The key of EVAL stands behind the script and the number of keys.
            let key = match command[0].to_uppercase().as_str() {
                "GET" | "SET" => &command[1],
                "EVAL" => &command[3],
                _ => continue,
            };
            // What the tending task reads.
            if ["watchword:store", "watchword:probe", "watchword:keys"].contains(&key.as_str()) {
                continue;
            }
            // Logins begin sessions, under ids that nobody chooses.
            if key.starts_with("watchword:session:") || *key == sessions_key {
                continue;
            }
            seen += 1;
            assert!(*key == format!("watchword:user:{own}") || *key == id_key, "{name:?}: {command:?}");
        }
        assert!(seen >= 4, "the calls were not seen");
    }
}

/// Every command that Redis ran since the log was cleared.
fn slow_log(place: &Place) -> Vec<Vec<String>> {
    type Entry = (i64, i64, i64, Vec<String>, String, String);
    place.redis().ask::<Vec<Entry>>(&["SLOWLOG", "GET", "-1"]).into_iter().map(|entry| entry.3).collect()
}
