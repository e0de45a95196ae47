"""The recipe of Journeyman's bundled base model: text in, `journeyman/starter/starter-1` out."""
