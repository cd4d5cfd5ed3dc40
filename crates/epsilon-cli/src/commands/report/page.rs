//! The page: one self-contained HTML file with light and dark themes, responsive and accessible.

use std::fmt::Write as _;

/// Escapes text for HTML content and attribute values.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// A page under construction, written from top to bottom.
pub(super) struct Page {
    title: String,
    /// Anchor and heading of every section.
    sections: Vec<(String, String)>,
    body: String,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        Self {
            title: title.into(),
            sections: Vec::new(),
            body: String::new(),
        }
    }

    /// Starts a section with this heading.
    pub(super) fn section(&mut self, heading: &str) {
        let anchor = format!("s{}", self.sections.len() + 1);
        let _ = write!(
            self.body,
            "\n<h2 id=\"{anchor}\">{}</h2>\n",
            escape(heading)
        );
        self.sections.push((anchor, heading.into()));
    }

    /// Adds HTML verbatim.
    pub(super) fn html(&mut self, html: &str) {
        self.body.push_str(html);
        self.body.push('\n');
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.html(&format!("<p>{}</p>", escape(text)));
    }

    /// Adds a chart with a caption.
    pub(super) fn figure(&mut self, caption: &str, svg: &str) {
        self.html(&format!(
            "<figure>{svg}<figcaption>{}</figcaption></figure>",
            escape(caption)
        ));
    }

    /// Adds a collapsible element.
    pub(super) fn details(&mut self, summary: &str, html: &str) {
        self.html(&format!(
            "<details><summary>{}</summary>{html}</details>",
            escape(summary)
        ));
    }

    /// Adds a table whose first column is a header; it scrolls if it is wider than the screen.
    pub(super) fn table(&mut self, caption: &str, head: &[String], rows: &[Vec<String>]) {
        let table = table(caption, head, rows);
        self.html(&table);
    }

    /// The whole document.
    pub(super) fn finish(self) -> String {
        let links: Vec<String> = self
            .sections
            .iter()
            .map(|(anchor, heading)| format!("<a href=\"#{anchor}\">{}</a>", escape(heading)))
            .collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>{title}</h1><nav aria-label=\"Sections\">{}</nav></header>\n<main>{}</main>\n</body>\n</html>\n",
            links.join(" "),
            self.body,
            title = escape(&self.title),
        )
    }
}

/// A table in a frame that can be scrolled with the keyboard.
pub(super) fn table(caption: &str, head: &[String], rows: &[Vec<String>]) -> String {
    let caption = escape(caption);
    let mut html = format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table><caption>{caption}</caption><thead><tr>"
    );
    for name in head {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(name));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match place {
                0 => write!(html, "<th scope=\"row\">{cell}</th>"),
                _ => write!(html, "<td>{cell}</td>"),
            };
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #595959; --paper: #fff; --line: #d0d0d0; --hit: #0a6b3d; --link: #0a4f9e; }
@media (prefers-color-scheme: dark) { :root { --ink: #eaeaea; --soft: #b0b0b0; --paper: #17181a; --line: #44474b; --hit: #5fd39a; --link: #8ab8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: var(--link); } nav a { margin-right: 1rem; display: inline-block; padding: .25rem 0; }
a:focus-visible, summary:focus-visible, .wide:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.wide { overflow-x: auto; margin: 1rem 0; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th[scope=row], thead th:first-child { text-align: left; font-weight: normal; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }
figcaption { color: var(--soft); } .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem; padding: 0; list-style: none; }
.gallery > li { border: 1px solid var(--line); border-radius: .4rem; padding: .7rem; }
.gallery .pictures { display: flex; gap: .4rem; } .gallery img { width: 50%; height: auto; object-fit: contain; align-self: start; border-radius: .2rem; }
.gallery ol { margin: .5rem 0 0; padding-left: 1.6rem; } .gallery .id { color: var(--soft); font-size: .85rem; }
.hit { color: var(--hit); font-weight: 600; } .unseen { border-bottom: 2px dotted currentColor; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); border-radius: .4rem; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_hold_cannot_leave_its_place() {
        let mut page = Page::new("a < b");
        page.section("\"x\" & <script>");
        page.table("t", &["<i>".into()], &[vec!["'q'".into(), "1".into()]]);
        let html = page.finish();
        assert!(
            !html.contains("<script>") && !html.contains("<i>"),
            "{html}"
        );
        assert!(html.contains("<a href=\"#s1\">&quot;x&quot; &amp; &lt;script&gt;</a>"));
        assert!(html.contains("&#39;q&#39;"));
    }
}
