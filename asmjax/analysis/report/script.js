// Without this the pictures stand side by side, as they do in print.
(() => {
  const gallery = document.querySelector(".gallery");
  if (!gallery) return;
  const make = (name, settings, ...children) => {
    const element = Object.assign(document.createElement(name), settings);
    element.append(...children);
    return element;
  };
  const photos = [...gallery.querySelectorAll(".photo")];
  const titles = [...photos[0].querySelectorAll("figcaption")].map((each) => each.textContent);

  const choose = (text, chosen) => {
    const options = titles.map((title) => make("option", { textContent: title, value: title }));
    const select = make("select", {}, ...options);
    select.value = chosen;
    return [select, make("label", {}, text + " ", select)];
  };
  const [left, leftLabel] = choose("Left", gallery.dataset.left);
  const [right, rightLabel] = choose("Right", gallery.dataset.right);
  const aside = make("input", { type: "checkbox" });
  const asideLabel = make("label", {}, aside, " all side by side");
  gallery.before(make("div", { className: "choice" }, leftLabel, rightLabel, asideLabel));

  const wipes = photos.map((photo) => {
    const pictures = [...photo.querySelectorAll("img")];
    const under = make("img", { className: "under" });
    const over = make("img", { className: "over" });
    const names = ["left", "right"].map((side) => make("span", { className: `name ${side}` }));
    const line = make("div", { className: "line" });
    const stage = make("div", { className: "stage" }, under, over, line, ...names);
    const slider = make("input", { type: "range", min: 0, max: 100, value: 50 });

    const move = () => {
      stage.style.setProperty("--at", `${slider.value}%`);
      slider.setAttribute(
        "aria-valuetext", `${slider.value} % ${left.value}, the rest ${right.value}`,
      );
    };
    const show = () => {
      for (const [picture, select, name] of [[over, left, names[0]], [under, right, names[1]]]) {
        const source = pictures[titles.indexOf(select.value)];
        picture.width = source.width;
        picture.height = source.height;
        picture.src = source.src;
        picture.alt = source.alt;
        name.textContent = select.value;
      }
      const photoName = photo.querySelector("h3").textContent;
      slider.setAttribute("aria-label", `${photoName}: ${left.value} over ${right.value}`);
      move();
    };
    const follow = (event) => {
      const box = stage.getBoundingClientRect();
      slider.value = 100 * (event.clientX - box.left) / box.width;
      move();
    };
    slider.addEventListener("input", move);
    stage.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) follow(event);
    });
    photo.append(make("div", { className: "wipe" }, stage, slider));
    return show;
  });

  const showAll = () => wipes.forEach((show) => show());
  left.addEventListener("change", showAll);
  right.addEventListener("change", showAll);
  const arrange = () => gallery.classList.toggle("sliding", !aside.checked);
  aside.addEventListener("change", arrange);
  showAll();
  arrange();
})();
