try {
  const theme = localStorage.getItem("jaxopt-lab-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch (e) { /* storage is off */ }
