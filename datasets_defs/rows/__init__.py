"""Rows of people's files, read tolerantly: kinds of file, encodings, forms of times and values, chats and documents."""
