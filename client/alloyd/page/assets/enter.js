// Shows the token once, gets a cookie for it, and leaves no trace of it in the address.
"use strict";

(() => {
  const said = document.getElementById("said");

  async function enter(token) {
    said.textContent = "";
    try {
      const answer = await fetch("/enter", { method: "POST", headers: { authorization: `Bearer ${token}` } });
      if (answer.ok) return location.reload();
      said.textContent = "This is not the token of this page.";
    } catch {
      said.textContent = "The page's server does not answer, or this is no token.";
    }
  }

  // A link from another site brings no cookie, though there may be one.
  async function known() {
    if (sessionStorage.getItem("alloyd-tried")) return sessionStorage.removeItem("alloyd-tried");
    const answer = await fetch("/assets/page.css");
    if (!answer.ok) return;
    sessionStorage.setItem("alloyd-tried", "yes");
    location.replace(location.pathname + location.search);
  }

  document.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    enter(document.getElementById("token").value.trim());
  });

  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname + location.search);
    enter(token);
  } else known();
})();
