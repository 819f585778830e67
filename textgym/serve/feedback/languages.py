"""The words of the page, in English and Chinese."""

from __future__ import annotations

from types import SimpleNamespace

LANGUAGES = {"en": "English", "zh": "中文"}

_WORDS = {
    "title": ("Feedback", "文本反馈"),
    "welcome": ("Which text is better?", "哪段文字更好？"),
    "intro": (
        "You see two texts for the same prompt, and choose the better one. There is no right "
        "answer: your opinion counts.",
        "您会看到同一提示的两段文字，请选出更好的一段。没有标准答案，您的意见就是答案。",
    ),
    "name": ("Your name or a nickname", "您的姓名或昵称"),
    "start": ("Start", "开始"),
    "taken": (
        "This name is taken. Choose another one; if it is yours, open your own link, which is on "
        "your page.",
        "该名字已被使用，请换一个；如果是您本人，请打开您页面上的个人链接。",
    ),
    "invited": (
        "Open the link that you were given: this server only knows the people who have one.",
        "请打开发给您的链接：本服务器只接受受邀者。",
    ),
    "prompt": ("Prompt", "提示"),
    "text": ("Text", "文本"),
    "empty": ("(an empty text)", "（空文本）"),
    "better": ("{} is better", "{} 更好"),
    "tie": ("Equal", "不分上下"),
    "skip": ("Skip", "跳过"),
    "undo": ("Undo", "撤销"),
    "differences": ("Differences", "差异"),
    "improve": ("Improve this text", "改写这段文字"),
    "send_improved": ("Best with my changes", "采用我的改写"),
    "submit": ("Submit", "提交"),
    "rate": ("How good is the text?", "这段文字怎么样？"),
    "rate_low": ("1: very poor", "1：很差"),
    "rate_high": ("5: very good", "5：很好"),
    "mark": (
        "Mark what is good or bad: select words, or tap them. Marking nothing is an answer too.",
        "请标出好的和不好的部分：选中或点按词语。也可以什么都不标。",
    ),
    "mark_plain": (
        "Mark parts by typing [+good parts+] and [-bad parts-].",
        "用 [+好的部分+] 和 [-不好的部分-] 标记。",
    ),
    "good": ("Good", "好"),
    "bad": ("Bad", "不好"),
    "clear": ("Clear", "清除"),
    "edit": (
        "Write a better version of this text: change as little or as much as you like.",
        "请改写这段文字：改多改少都可以。",
    ),
    "judged": ("{} judged", "已判断 {}"),
    "left": ("{} left", "还剩 {}"),
    "done": ("Nothing to judge at present", "暂时没有需要判断的内容"),
    "done_more": (
        "Thank you. This page looks for new texts by itself.",
        "谢谢！有新内容时本页会自动显示。",
    ),
    "lost": (
        "The server does not answer. Your answer is kept, and sent when it is back.",
        "服务器没有响应。您的回答已保存，恢复后会自动发送。",
    ),
    "back": ("The connection is back.", "连接已恢复。"),
    "answered": (
        "This text was answered before, and that answer counts. Use “Undo” to change it.",
        "这段文字已经回答过，以先前的回答为准。如需更改请撤销。",
    ),
    "error": ("That did not work", "操作未成功"),
    "again": ("Continue", "继续"),
    "no_access": ("Access needs the full address", "需要完整的访问地址"),
    "no_access_more": (
        "Open the address that the server printed, with its token.",
        "请打开服务器显示的、带令牌的完整地址。",
    ),
    "quality": ("Quality", "质量"),
    "you": ("You are {}", "您是 {}"),
    "device": ("your link, for another device", "您的个人链接（换设备时用）"),
    "entering": ("One moment", "请稍候"),
    "agreement": ("Agreement between people", "不同人之间的一致性"),
    "agreement_more": (
        "Krippendorff’s alpha: 1 is perfect agreement, 0 is chance. Values below 0.67 are usually "
        "too low for conclusions.",
        "Krippendorff 系数：1 表示完全一致，0 相当于随机。通常低于 0.67 时不宜下结论。",
    ),
    "choice": ("Choices", "选择"),
    "spans": ("Marked parts", "标记"),
    "rating": ("Rating", "评分"),
    "items_with_two": ("judged by two or more", "两人以上判断"),
    "not_yet": ("not enough judgements yet", "判断数量不足"),
    "yours": ("Your judgements", "您的判断"),
    "count": ("Judgements", "判断数"),
    "skips": ("Skipped", "跳过"),
    "seconds": ("Median time", "用时中位数"),
    "seconds_unit": ("{} s", "{} 秒"),
    "ties": ("Ties", "平局"),
    "left_share": ("Left text preferred", "选择左侧的比例"),
    "self": ("Same answer when asked again", "重复提问时回答相同"),
    "accuracy": ("Estimated accuracy", "估计的准确率"),
    "all": ("All judgements", "全部判断"),
    "all_more": (
        "Items: {1}; with a judgement: {0}. Judgements: {2}. People: {3}.",
        "共 {1} 项，其中 {0} 项已有判断；判断 {2} 个，参与者 {3} 人。",
    ),
    "back_to_judging": ("Back to judging", "返回判断"),
}


def words(language: str) -> SimpleNamespace:
    """Return all words in a language of `LANGUAGES`, as attributes."""
    place = list(LANGUAGES).index(language)
    return SimpleNamespace(**{name: each[place] for name, each in _WORDS.items()})


def preferred(accept: str) -> str:
    """Return the language of `LANGUAGES` that a header ``Accept-Language`` prefers (RFC 9110)."""
    ranked = []
    for place, part in enumerate(accept.split(",")[:20]):
        tag, _, weight = part.strip().partition(";q=")
        try:
            quality = float(weight or 1)
        except ValueError:
            quality = 0.0
        ranked.append((-quality, place, tag.lower().partition("-")[0]))
    return next((tag for rank, _, tag in sorted(ranked) if tag in LANGUAGES and rank < 0), "en")
