"""What builds and checks the site: a Sphinx extension, the chapters' executor, a page count."""
