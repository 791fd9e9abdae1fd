//! Variants of a Han character with code points of their own, which look alike in one font: 481 groups, 979 characters.
//!
//! Taken whole: UTS #39, kZVariant of Unihan 15.0, and the source separation list of ISO/IEC 10646 annex S as the file ucs-scs.txt
//! of github.com/cjkvi/cjkvi-variants has it. Taken if the glyphs match: variants of one word in Unihan and in the other files of
//! cjkvi-variants (up to 0.08), and two words (up to 0.012, or 0.03 if one is in no common national standard). The measure is 1
//! minus the correlation of the glyphs of Noto Sans CJK (JP, SC, TC, KR) at 64 px, centred and blurred by 1.5 px, in the nearest
//! face. Chosen by reading: the thresholds, 28 pairs left out that readers tell apart (U+5DF1 and U+5DF2 have 0.06), and U+5167,
//! which has 0.19, taken in. The measure alone does not decide: it has 0.03 for U+672A and U+672B, and 0.2 for U+56FD and U+570B.

use std::{collections::HashMap, sync::LazyLock};

/// Groups of characters that look alike. The first is canonical: it is in the most national standards and school lists.
#[rustfmt::skip]
const GROUPS: &str = "\
    䱷䲣 䲢鰧 丢丟 争爭 亾兦 仞仭 併倂 侠俠 侶侣 俞兪 俣俁 俫倈 俱倶 值値 偷偸 偽僞 \
    傻儍 僭僣 儹儧 兌兑 兔兎 兗兖 内內 冊册 净凈 凜凛 凢凣 刃刄 刊刋 別别 刪删 刱剏剙 \
    券劵 刹剎 剥剝 劄剳 劒劔 勻匀 匡匤 卄艹 協恊 单単 博愽 即卽 卷巻 口囗 吞呑 吳吴呉 \
    呂吕 告吿 呐吶 唧喞 啓啟啔 喻喩 噓嘘 嚏嚔 嚕噜 嚶嘤 国囯 圈圏 圓圎 埒埓 塈墍 填塡 \
    增増 墫壿 壮壯 壽夀 夐敻 奥奧 妆妝 妍姸 妹妺 姍姗 姬姫 娛娱娯 媮婾 媯嬀 媼媪 嬔嬎 \
    嬤嬷 孳孶 宮宫 寉隺 寝寢 寧寜 寬寛 寶寳 将將 專専 尔尓 尚尙 尪尫 届屆 屏屛 峡峽 \
    崍崃 崢峥 嵒喦 巂雟 巅巔巓 巠坙 市巿 帡帲 帶帯 幣幤 并幷 廄廏 廉亷 弑弒 弹弾 强強 \
    录彔 彙彚 彝彛彜彞 彦彥 徠徕 徵徴 德徳 恒恆 悞悮 悦悅 悳惪 惠恵 愜惬 慍愠 慎愼 憖慭 \
    懍懔 懶懒 戇戆 戬戩 戯戱 户戶戸 戾戻 抛拋 抹抺 拔抜 挟挾 挩捝 插挿揷 揭掲 搔掻 \
    搖摇揺 搜捜 搭撘 搵揾 撄攖 撸擼 擊撃 操橾 攋櫴 攢攅 敕敇 教敎 既旣 日曰 昂昻 昧昩 \
    晚晩 暨曁 曆暦 曖瞹 曳曵 曾曽 朊䏓 朏胐 朐胊 朓脁 朘脧 朣膧 朦矇䑃 朧矓 枴柺 柄抦 \
    查査 柵栅 柿杮 梲棁 棲捿 棶梾 楂揸 概槪 榅榲 榆楡 槙槇 槩㮣 槼椝 樣様 樧榝 横橫 \
    橱櫥 櫓橹 櫞橼 櫸欅 櫻樱 欑櫕 步歩 歲歳 歿殁 殲殱 殼殻 毁毀 每毎 毵毿 氇氌 氬氩 \
    氳氲 污汚 沒没 沫沬 浹浃 涉渉 涗涚 淚涙 淥渌 淨浄 清淸 温溫 渴渇 湊凑 湮凐 溈潙 \
    溉漑 準凖 滄凔 滾滚 漼凗 潜潛濳 澌凘 澛瀂 澤凙 澿凚 濚濴 濾瀘 瀔濲 瀨瀬 灝灏 為爲 \
    煢焭 熅煴 熙煕 状狀 狭狹 獋獔 獎奬奨 獺獭 珏玨 瑤瑶 瓔璎 瓶甁 産產 畬畲 疊曡 瘦痩 \
    瘿癭 癇癎 癛癝 癩癞 癬癣 癲癫 皓晧 皙晳 眛眜 真眞 睐睞 睽暌 瞭暸 瞷瞯 研硏 硖硤 \
    磠硵 祢袮 祴裓 祺褀 禄祿 福褔 禶襸 禿秃 秖秪 税稅 稟禀 穀榖 穎頴 穗穂 筇笻 筐筺 \
    箏筝 箳簈 篋箧 篡簒 籏簱 籟籁 籤籖 粤粵 糉糭 紮紥 絶絕 綠緑 緒緖 緣縁 縕緼 縱縦 \
    繈繦 繡繍 繫繋 纏纒 纖繊纎 纘纉 羹羮 翺翶 胼腁 脱脫 腻膩 膃腽 舄舃 舍舎 舖舗 茇苃 \
    茉苿 荔茘 莊荘 莱萊 菓菒 菫堇 蒋蔣 蓑簑簔 蔿蒍 蕑蕳 蕢蔶 蕵薞 薀蕰 薰薫 蘊藴 蘏蘔 \
    蘚藓 虚虛 蛱蛺 蜕蛻 螿螀 衆眾 衛衞 衧衦 袞衮 装裝 裬祾 褙禙 襉襇 覵覸 說説 諫諌 \
    謠謡 讚讃 豜豣 贊賛 贋赝 赢贏 赿趆 趱趲 躲躱 輛輌 輧軿 轀輼 达迖 迂迀 遥遙 邢郉 \
    郎郞 郏郟 鄉郷鄕 酆鄷 酐酑 醞醖 醬醤 鈃銒 鉤鈎 銳鋭 錄録 鍊錬 鎮鎭 鐵鐡 鑽鑚 閏閠 \
    閱閲 闞鬫 陝陕 陧隉 隷隸 靊霻 青靑 静靜 靭靱 靹鞆 頤頣 頰頬 頲颋 頹頽 題题 顏顔 \
    顛顚 顥颢 顰颦 颧顴 飇飈 飲飮 餅餠 馮溤 馱駄 駢騈 騷騒 騺驇 骭骬 高髙 髮髪 髯髥 \
    鬜鬝 鬭鬬 鬱鬰 鬶鬹 魎魉 魛鱽 魨鲀 魯鲁 魺鲄 鮚鲒 鮫鲛 鮳鲓 鮶鲪 鯀鲧 鯁鲠 鯇鲩 \
    鯉鲤 鯒鲬 鯕鲯 鯡鲱 鯢鲵 鯧鲳 鯫鲰 鯷鳀 鰆䲠 鰈鲽 鰉鳇 鰍鳅 鰛鰮鳁 鰜鳒 鰨鳎 鰩鳐 \
    鰲鳌 鰳鳓 鰻鳗 鰼鳛 鱒鳟 鱖鳜 鱣鳣 鱧鳢 鱪鱰 鲅鮁 鲉鮋 鲏鮍 鲘鮜 鲝鮺 鲫鯽 鲺鯴 \
    鳊鯿 鳋鰠 鳑鰟 鳘鰵 鳙鱅 鳚䲁 鳠鱯 鳳鳯 鶇鶫 鷏鷆 鷳鷴 鹃鹂 鹵卤 鹺鹾 麼麽 黄黃 \
    黑黒 鼈龞";

/// The canonical character of each of the others.
static CANONICAL: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    let mut canonical = HashMap::new();
    for group in GROUPS.split_whitespace() {
        let mut chars = group.chars();
        let first = chars.next().expect("a group has characters");
        canonical.extend(chars.map(|variant| (variant, first)));
    }
    canonical
});

/// The canonical character for a Han character.
pub(super) fn canonical(c: char) -> char {
    CANONICAL.get(&c).copied().unwrap_or(c)
}
