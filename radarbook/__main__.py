from radarbook.cli import main

main()
