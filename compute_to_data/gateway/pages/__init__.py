"""The pages of the gateway in a browser: rendered here, useful without JavaScript, and live with it.

- ``routes``: all of them. ``route``: how they answer errors. ``rendering``: templates, and what each page may load.
- ``visitor``: who looks at a page, and proof that a form is one of ours. ``forms``: what a form sends.
- ``entering``: signing in and out. ``tasks``, ``new_task``, ``datasets``, ``workloads``, ``resources``: the pages.
- ``timeline``, ``previews``, ``parameter_form``: what they show. ``content``, ``archive``: files of a task or dataset.

A page does what ``client`` does. What a task left is a stranger's content: it is shown as text, as a picture, or in a
frame without scripts, and each name is escaped.
"""
