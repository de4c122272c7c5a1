// Browsers start no worker from a file: address. There, this runs the search worker in a hidden frame, so that search
// works without a server and without a network. On a server the browser's own Worker stays.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.appendChild(frame)
      this.inner = frame.contentWindow
      this.inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.loaded = new Promise((resolve, reject) => {
        const script = this.inner.document.createElement("script")
        script.onload = resolve
        script.onerror = reject
        script.src = new URL(url, location.href).href
        this.inner.document.body.appendChild(script)
      })
    }
    postMessage(data) {
      this.loaded.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {}
  }
}
