"""What tests share: real servers, fakes for time and identifiers, and patience."""
